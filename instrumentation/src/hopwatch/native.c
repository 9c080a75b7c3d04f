/* The innermost steps of recording, for those who have a C compiler: each has a twin in Python that says the same. See native.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* --- numbers ------------------------------------------------------------------------------------------------------- */

/* Big-endian bytes of a non-negative number that fits; -1 with an exception where it does not. */
static int
big_endian(PyObject *number, unsigned char *bytes, size_t size)
{
    if (!PyLong_Check(number)) {
        PyErr_SetString(PyExc_TypeError, "an id is a number");
        return -1;
    }
#if PY_VERSION_HEX >= 0x030D0000
    Py_ssize_t taken = PyLong_AsNativeBytes(number, bytes, (Py_ssize_t)size,
        Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER | Py_ASNATIVEBYTES_REJECT_NEGATIVE);
    if (taken >= 0 && (size_t)taken <= size)
        return 0;
    PyErr_SetString(PyExc_OverflowError, "an id is negative or too large");
    return -1;
#else
    return _PyLong_AsByteArray((PyLongObject *)number, bytes, size, 0, 0);
#endif
}

static PyObject *
from_big_endian(const unsigned char *bytes, size_t size)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromUnsignedNativeBytes(bytes, size, Py_ASNATIVEBYTES_BIG_ENDIAN);
#else
    return _PyLong_FromByteArray(bytes, size, 0, 0);
#endif
}

/* --- bytes that grow ------------------------------------------------------------------------------------------------- */

#define ROOM_FOR_HEAD 11 /* a tag and the longest variable length */

typedef struct {
    unsigned char *begin, *at, *end;
    unsigned char here[1024];
} Out;

static void
out_begin(Out *out)
{
    out->begin = out->here;
    out->at = out->here + ROOM_FOR_HEAD;
    out->end = out->here + sizeof out->here;
}

static void
out_end(Out *out)
{
    if (out->begin != out->here)
        PyMem_Free(out->begin);
}

static int
out_room(Out *out, size_t size)
{
    if ((size_t)(out->end - out->at) >= size)
        return 0;
    size_t used = (size_t)(out->at - out->begin), whole = 2 * (used + size);
    unsigned char *larger = PyMem_Malloc(whole);
    if (larger == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(larger, out->begin, used);
    out_end(out);
    out->begin = larger;
    out->at = larger + used;
    out->end = larger + whole;
    return 0;
}

static size_t
varint_size(uint64_t value)
{
    size_t size = 1;
    while (value >= 128) {
        value >>= 7;
        size++;
    }
    return size;
}

static unsigned char *
varint(unsigned char *at, uint64_t value)
{
    while (value >= 128) {
        *at++ = (unsigned char)(value | 128);
        value >>= 7;
    }
    *at++ = (unsigned char)value;
    return at;
}

static unsigned char *
fixed64(unsigned char *at, uint64_t value)
{
    for (int i = 0; i < 8; i++, value >>= 8)
        *at++ = (unsigned char)value;
    return at;
}

static int
out_bytes(Out *out, PyObject *bytes)
{
    if (!PyBytes_CheckExact(bytes)) {
        PyErr_SetString(PyExc_TypeError, "a field is bytes");
        return -1;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);
    if (out_room(out, size) < 0)
        return -1;
    memcpy(out->at, PyBytes_AS_STRING(bytes), size);
    out->at += size;
    return 0;
}

/* --- attributes ------------------------------------------------------------------------------------------------------ */

enum { WRITTEN, NOT_PLAIN };

#define FAILED -1

/* One KeyValue in field 9 of a span; NOT_PLAIN: not of a kind that is written here, or no text. */
static int
attribute(Out *out, PyObject *key, PyObject *value)
{
    Py_ssize_t key_size, text_size = 0;
    const char *name, *text = NULL;
    uint64_t number = 0;
    unsigned char kind;
    size_t size;

    if (!PyUnicode_CheckExact(key) || (name = PyUnicode_AsUTF8AndSize(key, &key_size)) == NULL)
        goto not_plain;
    if (PyUnicode_CheckExact(value)) {
        if ((text = PyUnicode_AsUTF8AndSize(value, &text_size)) == NULL)
            goto not_plain;
        kind = 0x0A;
        size = varint_size((uint64_t)text_size) + (size_t)text_size;
    }
    else if (PyBool_Check(value)) {
        kind = 0x10;
        number = value == Py_True;
        size = 1;
    }
    else if (PyLong_CheckExact(value)) {
        int overflow;
        long long whole = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow)
            goto not_plain;
        kind = 0x18;
        number = (uint64_t)whole;
        size = varint_size(number);
    }
    else if (PyFloat_CheckExact(value)) {
        double real = PyFloat_AS_DOUBLE(value);
        memcpy(&number, &real, sizeof number);
        kind = 0x21;
        size = 8;
    }
    else
        goto not_plain;

    size_t key_field = 1 + varint_size((uint64_t)key_size) + (size_t)key_size;
    size_t value_field = 1 + varint_size(1 + size) + 1 + size;
    if (out_room(out, 11 + key_field + value_field) < 0)
        return FAILED;
    unsigned char *at = out->at;
    *at++ = 0x4A;
    at = varint(at, key_field + value_field);
    *at++ = 0x0A;
    at = varint(at, (uint64_t)key_size);
    memcpy(at, name, (size_t)key_size);
    at += key_size;
    *at++ = 0x12;
    at = varint(at, 1 + size);
    *at++ = kind;
    if (kind == 0x0A) {
        at = varint(at, (uint64_t)text_size);
        memcpy(at, text, (size_t)text_size);
        at += text_size;
    }
    else if (kind == 0x21)
        at = fixed64(at, number);
    else
        at = varint(at, number);
    out->at = at;
    return WRITTEN;

not_plain:
    PyErr_Clear();
    return NOT_PLAIN;
}

/* --- what Python calls ------------------------------------------------------------------------------------------------ */

/* The twin in Python, for spans with a value of a kind that is not written here. */
static PyObject *plainly = NULL;

static PyObject *
span(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    if (count != 11) {
        PyErr_SetString(PyExc_TypeError, "span takes 11 arguments");
        return NULL;
    }
    PyObject *trace_id = args[0], *span_id = args[1], *state = args[2], *parent_id = args[3], *name = args[4], *kind = args[5],
             *start = args[6], *end = args[7], *shared = args[8], *own = args[9], *tail = args[10], *whole = NULL;
    Out out;
    out_begin(&out);

    unsigned char *at = out.at;
    *at++ = 0x0A;
    *at++ = 16;
    if (big_endian(trace_id, at, 16) < 0)
        goto done;
    at += 16;
    *at++ = 0x12;
    *at++ = 8;
    if (big_endian(span_id, at, 8) < 0)
        goto done;
    out.at = at + 8;
    if (out_bytes(&out, state) < 0)
        goto done;
    if (parent_id != Py_None) {
        if (out_room(&out, 10) < 0)
            goto done;
        *out.at++ = 0x22;
        *out.at++ = 8;
        if (big_endian(parent_id, out.at, 8) < 0)
            goto done;
        out.at += 8;
    }
    if (out_bytes(&out, name) < 0 || out_room(&out, 20) < 0)
        goto done;
    unsigned long long moments[2] = {PyLong_AsUnsignedLongLong(start), PyLong_AsUnsignedLongLong(end)};
    unsigned long number = PyLong_AsUnsignedLong(kind);
    if (PyErr_Occurred())
        goto done;
    *out.at++ = 0x30;
    *out.at++ = (unsigned char)(number & 127);
    *out.at++ = 0x39;
    out.at = fixed64(out.at, moments[0]);
    *out.at++ = 0x41;
    out.at = fixed64(out.at, moments[1]);
    if (out_bytes(&out, shared) < 0)
        goto done;

    if (!PyDict_Check(own)) {
        PyErr_SetString(PyExc_TypeError, "attributes are a dict");
        goto done;
    }
    PyObject *key, *value;
    Py_ssize_t place = 0;
    while (PyDict_Next(own, &place, &key, &value)) {
        int written = attribute(&out, key, value);
        if (written != WRITTEN) {
            if (written == NOT_PLAIN)
                whole = plainly ? PyObject_Vectorcall(plainly, args, (size_t)count, NULL) : Py_NewRef(Py_None);
            goto done;
        }
    }
    if (out_bytes(&out, tail) < 0)
        goto done;

    unsigned char *body = out.begin + ROOM_FOR_HEAD;
    size_t size = (size_t)(out.at - body);
    unsigned char *head = body - 1 - varint_size(size);
    *head = 0x12;
    varint(head + 1, size);
    whole = PyBytes_FromStringAndSize((const char *)head, out.at - head);
done:
    out_end(&out);
    return whole;
}

static PyObject *
fall_back_on(PyObject *Py_UNUSED(self), PyObject *twin)
{
    Py_XSETREF(plainly, Py_NewRef(twin));
    Py_RETURN_NONE;
}

static const char digits[] = "0123456789abcdef";

static unsigned char *
hex(unsigned char *at, const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        *at++ = (unsigned char)digits[bytes[i] >> 4];
        *at++ = (unsigned char)digits[bytes[i] & 15];
    }
    return at;
}

static int
is_digit(unsigned char one)
{
    return (one >= '0' && one <= '9') || (one >= 'a' && one <= 'f');
}

/* Bytes from lower-case hex digits; -1 where there are others. */
static int
unhex(const unsigned char *text, unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < 2 * size; i++) {
        if (!is_digit(text[i]))
            return -1;
        int value = text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10;
        bytes[i / 2] = (unsigned char)(i % 2 ? bytes[i / 2] | value : value << 4);
    }
    return 0;
}

static PyObject *
traceparent(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    unsigned char ids[24];
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "traceparent takes 3 arguments");
        return NULL;
    }
    if (big_endian(args[0], ids, 16) < 0 || big_endian(args[1], ids + 16, 8) < 0)
        return NULL;
    unsigned long flags = PyLong_AsUnsignedLong(args[2]);
    if (flags == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    PyObject *text = PyUnicode_New(55, 127);
    if (text == NULL)
        return NULL;
    unsigned char *at = PyUnicode_1BYTE_DATA(text), last = (unsigned char)flags;
    memcpy(at, "00-", 3);
    at = hex(at + 3, ids, 16);
    *at++ = '-';
    at = hex(at, ids + 16, 8);
    *at++ = '-';
    hex(at, &last, 1);
    return text;
}

/* Ids in a clean traceparent: 16 bytes, 8 bytes, flags; -1 where it is not clean. */
static int
ids_in(const unsigned char *text, size_t size, unsigned char ids[25])
{
    if (size != 55 || memcmp(text, "00-", 3) || text[35] != '-' || text[52] != '-')
        return -1;
    return unhex(text + 3, ids, 16) < 0 || unhex(text + 36, ids + 16, 8) < 0 || unhex(text + 53, ids + 24, 1) < 0 ? -1 : 0;
}

static int
uuid_in(const unsigned char *text, size_t size)
{
    if (size != 36)
        return 0;
    for (size_t i = 0; i < size; i++) {
        int dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !is_digit(text[i]))
            return 0;
    }
    return 1;
}

/* The characters of a text that is ASCII, or the bytes; NULL for everything else. */
static const unsigned char *
characters(PyObject *text, size_t *size)
{
    if (PyUnicode_CheckExact(text) && PyUnicode_IS_COMPACT_ASCII(text)) {
        *size = (size_t)PyUnicode_GET_LENGTH(text);
        return PyUnicode_1BYTE_DATA(text);
    }
    if (PyBytes_CheckExact(text)) {
        *size = (size_t)PyBytes_GET_SIZE(text);
        return (const unsigned char *)PyBytes_AS_STRING(text);
    }
    return NULL;
}

static PyObject *
parent(PyObject *Py_UNUSED(self), PyObject *header)
{
    unsigned char ids[25];
    size_t size;
    const unsigned char *text = PyUnicode_Check(header) ? characters(header, &size) : NULL;
    if (text == NULL || ids_in(text, size, ids) < 0)
        Py_RETURN_NONE;
    return Py_BuildValue("NNi", from_big_endian(ids, 16), from_big_endian(ids + 16, 8), ids[24]);
}

/* --- headers of a message ----------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject *parent, *message; /* borrowed */
    int usual;
} Headers;

static int
is_named(const unsigned char *text, size_t size, const char *name)
{
    if (size != strlen(name))
        return 0;
    for (size_t i = 0; i < size; i++)
        if ((text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]) != name[i])
            return 0;
    return 1;
}

/* Note one header. Unusual is all that Python looks at more closely: names in capitals, names that come twice, and two that say more. */
static void
note(Headers *headers, PyObject *name, PyObject *value)
{
    if (!PyUnicode_CheckExact(name)) {
        headers->usual = 0;
        return;
    }
    size_t size;
    const unsigned char *text = characters(name, &size);
    if (text == NULL || size < 7 || size > 11)
        return;
    PyObject **place = is_named(text, size, "traceparent") ? &headers->parent : is_named(text, size, "hopwatch-id") ? &headers->message : NULL;
    if (place == NULL) {
        if (is_named(text, size, "tracestate") || is_named(text, size, "baggage"))
            headers->usual = 0;
        return;
    }
    if (*place != NULL || (text[0] != 't' && text[0] != 'h') || memcmp(text, place == &headers->parent ? "traceparent" : "hopwatch-id", 11))
        headers->usual = 0;
    *place = value;
}

static int
note_all(Headers *headers, PyObject *carrier)
{
    if (PyDict_CheckExact(carrier)) {
        PyObject *name, *value;
        Py_ssize_t place = 0;
        while (PyDict_Next(carrier, &place, &name, &value))
            note(headers, name, value);
        return 0;
    }
    if (!PyTuple_CheckExact(carrier) && !PyList_CheckExact(carrier))
        return -1;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(carrier); i++) {
        PyObject *pair = PySequence_Fast_GET_ITEM(carrier, i);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)
            return -1;
        note(headers, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    }
    return 0;
}

enum { NOBODY, SOMEBODY, UNUSUAL }; /* or FAILED */

/* Who sent a message: ids and flags, the flow in digits, the message's id (a new reference, None where it is no id). */
typedef struct {
    unsigned char ids[25], flow[32];
    PyObject *message;
} Sent;

static int
read_sender(PyObject *carrier, Sent *sent)
{
    Headers headers = {NULL, NULL, 1};
    size_t size;
    static const unsigned char nothing[16];

    if (carrier == Py_None)
        return NOBODY;
    if (note_all(&headers, carrier) < 0 || !headers.usual)
        return UNUSUAL;
    if (headers.parent == NULL)
        return headers.message == NULL ? NOBODY : UNUSUAL;
    const unsigned char *text = characters(headers.parent, &size);
    if (text == NULL || ids_in(text, size, sent->ids) < 0 || !memcmp(sent->ids, nothing, 16) || !memcmp(sent->ids + 16, nothing, 8))
        return UNUSUAL;
    memcpy(sent->flow, text + 3, sizeof sent->flow);
    sent->message = Py_None;
    if (headers.message != NULL) {
        if ((text = characters(headers.message, &size)) == NULL)
            return UNUSUAL;
        if (uuid_in(text, size))
            sent->message = headers.message;
    }
    if (PyBytes_CheckExact(sent->message))
        return (sent->message = PyUnicode_FromStringAndSize((const char *)text, 36)) == NULL ? FAILED : SOMEBODY;
    Py_INCREF(sent->message);
    return SOMEBODY;
}

static PyObject *
text_of(const unsigned char *digits, size_t size)
{
    return PyUnicode_FromStringAndSize((const char *)digits, (Py_ssize_t)size);
}

static PyObject *
sender(PyObject *Py_UNUSED(self), PyObject *carrier)
{
    Sent sent;
    switch (read_sender(carrier, &sent)) {
    case NOBODY:
        return PyTuple_New(0);
    case SOMEBODY:
        return Py_BuildValue("NNiNN", from_big_endian(sent.ids, 16), from_big_endian(sent.ids + 16, 8), sent.ids[24],
            text_of(sent.flow, sizeof sent.flow), sent.message);
    case UNUSUAL:
        Py_RETURN_NONE;
    default:
        return NULL;
    }
}

static PyObject *
is_uuid(PyObject *Py_UNUSED(self), PyObject *text)
{
    size_t size;
    const unsigned char *at = PyUnicode_Check(text) ? characters(text, &size) : NULL;
    return PyBool_FromLong(at != NULL && uuid_in(at, size));
}

/* --- message ids: see ids.py --------------------------------------------------------------------------------------------- */

static struct {
    long long millisecond;
    uint64_t counter;
    unsigned char beginning[24];
} minted;

static int
mint_anew(PyObject *getrandbits, long long now)
{
    unsigned char random[10], moment[6];
    PyObject *drawn = PyObject_CallFunction(getrandbits, "i", 80);
    if (drawn == NULL)
        return -1;
    int failed = big_endian(drawn, random, sizeof random);
    Py_DECREF(drawn);
    if (failed < 0)
        return -1;
    for (int i = 0; i < 6; i++)
        moment[i] = (unsigned char)(now >> (40 - 8 * i));
    random[0] = (unsigned char)(0x70 | (random[0] & 0x0F));
    random[2] = (unsigned char)(0x80 | (random[2] & 0x3F));
    unsigned char *at = hex(minted.beginning, moment, 4);
    *at++ = '-';
    at = hex(at, moment + 4, 2);
    *at++ = '-';
    at = hex(at, random, 2);
    *at++ = '-';
    at = hex(at, random + 2, 2);
    *at = '-';
    minted.counter = 0;
    for (int i = 4; i < 10; i++)
        minted.counter = minted.counter << 8 | random[i];
    minted.counter &= ((uint64_t)1 << 47) - 1;
    minted.millisecond = now;
    return 0;
}

static PyObject *
mint(PyObject *Py_UNUSED(self), PyObject *getrandbits)
{
    struct timespec moment;
    if (timespec_get(&moment, TIME_UTC) == 0) {
        PyErr_SetString(PyExc_OSError, "no clock");
        return NULL;
    }
    long long now = (long long)moment.tv_sec * 1000 + moment.tv_nsec / 1000000;
    if (now != minted.millisecond && mint_anew(getrandbits, now) < 0)
        return NULL;
    PyObject *text = PyUnicode_New(36, 127);
    if (text == NULL)
        return NULL;
    unsigned char number[6], *at = PyUnicode_1BYTE_DATA(text);
    for (int i = 0; i < 6; i++)
        number[i] = (unsigned char)(minted.counter >> (40 - 8 * i));
    minted.counter++;
    memcpy(at, minted.beginning, sizeof minted.beginning);
    hex(at + sizeof minted.beginning, number, sizeof number);
    return text;
}

static PyObject *
forget(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(nothing))
{
    minted.millisecond = 0;
    Py_RETURN_NONE;
}

/* --- what Python's own classes are ---------------------------------------------------------------------------------------- */

/* Where instances of a class keep their __slots__: read and filled here as Python would, without asking for each by name. */
typedef struct {
    PyTypeObject *type;
    size_t count;
    Py_ssize_t at[22];
} Layout;

#define SLOT(object, layout, name) (*(PyObject **)((char *)(object) + (layout).at[name]))

enum { SPAN_TRACER, SPAN_NAME, SPAN_KIND, SPAN_PARENT, SPAN_TRACE_ID, SPAN_ID, SPAN_FLAGS, SPAN_STATE, SPAN_OWN, SPAN_PLACE, SPAN_START,
       SPAN_END, SPAN_STATUS, SPAN_DROPPED, SPAN_NOTED, SPAN_DROPPED_EVENTS, SPAN_LINKED, SPAN_DROPPED_LINKS, SPAN_CONTEXT,
       SPAN_RECORD_EXCEPTION, SPAN_SET_STATUS, SPAN_OPEN, SPAN_SLOTS };
static const char *const span_slots[] = {"_tracer", "_name", "_kind", "_parent", "_trace_id", "_span_id", "_trace_flags", "_trace_state",
    "_own", "_place", "_start_time", "_end_time", "_status", "_dropped_attributes", "_noted", "_dropped_events", "_linked",
    "_dropped_links", "_cached_context", "_record_exception", "_set_status_on_exception", "_open", NULL};

enum { SEND_TRACER, SEND_PARENT, SEND_TRACE_ID, SEND_ID, SEND_FLAGS, SEND_OWN, SEND_PLACE, SEND_START, SEND_END, SEND_MESSAGE, SEND_GROWN,
       SEND_SLOTS };
static const char *const send_slots[] = {"_tracer", "parent", "trace_id", "span_id", "flags", "own", "place", "start_time", "end_time",
    "message_id", "_grown", NULL};

enum { PLACE_NAME, PLACE_ATTRIBUTES, PLACE_ENCODED };
static const char *const place_slots[] = {"span_name", "attributes", "encoded", NULL};

enum { HOP_TRACER, HOP_SPAN, HOP_CONTEXT, HOP_ATTRIBUTES, HOP_PLACE, HOP_OUTCOME, HOP_ENDED, HOP_DONE, HOP_ERROR_TYPE, HOP_BEFORE,
       HOP_STARTED, HOP_SLOTS };
static const char *const hop_slots[] = {"_tracer", "_span", "context", "_attributes", "_place", "outcome", "ended", "_done", "_error_type",
    "before", "started", NULL};

enum { TRACER_PROVIDER, TRACER_ROOM, TRACER_ROOT, TRACER_CONTINUED, TRACER_LEDGER };
static const char *const tracer_slots[] = {"provider", "_most_quick", "_root", "_continued", "ledger", NULL};

enum { PROVIDER_OUTLET, PROVIDER_PROCESSORS, PROVIDER_STANDS_IN };
static const char *const provider_slots[] = {"outlet", "processors", "stands_in", NULL};

enum { QUEUE_ENDED, QUEUE_ROOM, QUEUE_STIR_AT };
static const char *const queue_slots[] = {"_ended", "_room", "_stir_at", NULL};

enum { PROPAGATOR_BY_HAND };
static const char *const propagator_slots[] = {"by_hand", NULL};

static Layout spans, sends, places, hops, tracers, providers, queues, propagators;

static const struct {
    const char *name;
    Layout *layout;
    const char *const *slots;
} classes[] = {
    {"span", &spans, span_slots},
    {"send", &sends, send_slots},
    {"place", &places, place_slots},
    {"hop", &hops, hop_slots},
    {"tracer", &tracers, tracer_slots},
    {"provider", &providers, provider_slots},
    {"queue", &queues, queue_slots},
    {"propagator", &propagators, propagator_slots},
};

/* What else has to be known. The last ones are made here. */
static struct {
    PyObject *tails, *producer, *encode, *unset, *consumer, *flags, *no_state, *message_key, *span_key, *incoming_key,
        *flow_key, *baggage_key, *span_context, *context, *propagate, *trace, *setter, *get_current, *attach, *unsettled, *outcome_key;
    PyObject *value, *no_bytes, *nothing, *no_arguments, *in_force, *provider_set, *ids, *set, *get_span_context, *put, *extend,
        *traceparent, *hopwatch_id;
} known;

static const struct {
    const char *name;
    PyObject **place;
    PyTypeObject *type;
    Py_ssize_t size;
} things[] = {
    {"tails", &known.tails, &PyTuple_Type, 8},
    {"producer", &known.producer, NULL, 0},
    {"encode", &known.encode, NULL, 0},
    {"unset", &known.unset, NULL, 0},
    {"consumer", &known.consumer, NULL, 0},
    {"flags", &known.flags, &PyTuple_Type, 256},
    {"no_state", &known.no_state, NULL, 0},
    {"message_key", &known.message_key, NULL, 0},
    {"span_key", &known.span_key, NULL, 0},
    {"incoming_key", &known.incoming_key, NULL, 0},
    {"flow_key", &known.flow_key, NULL, 0},
    {"baggage_key", &known.baggage_key, NULL, 0},
    {"span_context", &known.span_context, &PyType_Type, 0},
    {"context", &known.context, &PyType_Type, 0},
    {"propagate", &known.propagate, &PyDict_Type, 0},
    {"trace", &known.trace, &PyDict_Type, 0},
    {"setter", &known.setter, NULL, 0},
    {"get_current", &known.get_current, NULL, 0},
    {"attach", &known.attach, NULL, 0},
    {"unsettled", &known.unsettled, NULL, 0},
    {"outcome_key", &known.outcome_key, NULL, 0},
};

#define LENGTH(table) (sizeof(table) / sizeof(table)[0])
enum { TO_BEGIN = 3, TO_WRITE = 4 }; /* the first things are needed to write what has ended, all from the fourth on to begin */

static int can_write, can_begin;

static int
are_known(size_t from, size_t to)
{
    while (from < to && *things[from].place != NULL)
        from++;
    return from == to;
}

/* Whether the class has these slots; another Python may lay objects out otherwise, and then Python does the work. */
static int
learn_class(Layout *layout, PyObject *type, const char *const names[])
{
    Layout found = {NULL, 0, {0}};
    if (!PyType_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "a class is a class");
        return -1;
    }
    for (size_t i = 0; names[i] != NULL; i++) {
        PyObject *slot = PyObject_GetAttrString(type, names[i]);
        int is_slot = slot != NULL && Py_IS_TYPE(slot, &PyMemberDescr_Type) && ((PyMemberDescrObject *)slot)->d_member->type == T_OBJECT_EX;
        if (is_slot)
            found.at[found.count++] = ((PyMemberDescrObject *)slot)->d_member->offset;
        Py_XDECREF(slot);
        if (!is_slot) {
            PyErr_Clear();
            return 0;
        }
    }
    found.type = (PyTypeObject *)Py_NewRef(type);
    Py_XDECREF(layout->type);
    *layout = found;
    return 1;
}

static int
learn_thing(size_t which, PyObject *value)
{
    PyTypeObject *type = things[which].type;
    int fits = type == NULL || PyObject_TypeCheck(value, type);
    if (fits && type == &PyTuple_Type)
        fits = PyTuple_GET_SIZE(value) == things[which].size;
    if (fits && things[which].place == &known.span_context)
        fits = PyType_IsSubtype((PyTypeObject *)value, &PyTuple_Type);
    if (fits && things[which].place == &known.context)
        fits = PyType_IsSubtype((PyTypeObject *)value, &PyDict_Type);
    if (!fits) {
        PyErr_Format(PyExc_TypeError, "%s is something else", things[which].name);
        return -1;
    }
    Py_XSETREF(*things[which].place, Py_NewRef(value));
    return 1;
}

static int
learn_one(const char *name, PyObject *value)
{
    for (size_t i = 0; i < LENGTH(classes); i++)
        if (!strcmp(name, classes[i].name))
            return learn_class(classes[i].layout, value, classes[i].slots);
    for (size_t i = 0; i < LENGTH(things); i++)
        if (!strcmp(name, things[i].name))
            return learn_thing(i, value);
    PyErr_Format(PyExc_TypeError, "%s is of no use here", name);
    return -1;
}

/* learn(name=what it is, …): whether the classes among it are laid out as is counted on. What was learnt before stays otherwise. */
static PyObject *
learn(PyObject *Py_UNUSED(self), PyObject *args, PyObject *named)
{
    PyObject *name, *value;
    Py_ssize_t place = 0;
    if (!PyArg_ParseTuple(args, ":learn"))
        return NULL;
    while (named != NULL && PyDict_Next(named, &place, &name, &value)) {
        const char *text = PyUnicode_AsUTF8(name);
        int learnt = text == NULL ? -1 : learn_one(text, value);
        if (learnt < 0)
            return NULL;
        if (!learnt)
            Py_RETURN_FALSE;
    }
    int ends = spans.type != NULL && sends.type != NULL && places.type != NULL;
    can_write = ends && are_known(0, TO_WRITE);
    can_begin = ends && hops.type != NULL && tracers.type != NULL && providers.type != NULL && propagators.type != NULL &&
                are_known(TO_BEGIN, LENGTH(things));
    Py_RETURN_TRUE;
}

/* What is made here once. */
static int
prepare(PyObject *Py_UNUSED(module))
{
    const struct {
        PyObject **place;
        const char *text;
    } names[] = {
        {&known.value, "_value_"},
        {&known.in_force, "_HTTP_TEXT_FORMAT"},
        {&known.provider_set, "_TRACER_PROVIDER"},
        {&known.ids, "ids"},
        {&known.set, "set"},
        {&known.get_span_context, "get_span_context"},
        {&known.put, "put"},
        {&known.extend, "extend"},
        {&known.traceparent, "traceparent"},
        {&known.hopwatch_id, "hopwatch-id"},
    };
    for (size_t i = 0; i < LENGTH(names); i++)
        Py_XSETREF(*names[i].place, PyUnicode_InternFromString(names[i].text));
    Py_XSETREF(known.no_bytes, PyBytes_FromStringAndSize(NULL, 0));
    Py_XSETREF(known.nothing, PyLong_FromLong(0));
    Py_XSETREF(known.no_arguments, PyTuple_New(0));
    return PyErr_Occurred() ? -1 : 0;
}

/* An instance with these slots, which are taken over; NULL where one of them could not be made. */
static PyObject *
filled(const Layout *layout, PyObject *const *slots)
{
    int whole = 1;
    for (size_t i = 0; i < layout->count; i++)
        whole &= slots[i] != NULL;
    PyObject *made = whole ? layout->type->tp_new(layout->type, known.no_arguments, NULL) : NULL;
    for (size_t i = 0; i < layout->count; i++)
        if (made == NULL)
            Py_XDECREF(slots[i]);
        else
            *(PyObject **)((char *)made + layout->at[i]) = slots[i];
    return made;
}

/* --- what ends ------------------------------------------------------------------------------------------------------------- */

/* An ended span with a place and nothing unusual, or a send, as the field it is in its scope; all else is left to the twin. */
static PyObject *
field(PyObject *Py_UNUSED(self), PyObject *ended)
{
    PyObject *args[11] = {0}, *parent, *place, *flags, *kind = NULL;
    if (!can_write) {
        PyErr_SetString(PyExc_TypeError, "nobody has said what spans are");
        return NULL;
    }
    if (Py_IS_TYPE(ended, sends.type)) {
        parent = SLOT(ended, sends, SEND_PARENT);
        place = SLOT(ended, sends, SEND_PLACE);
        args[0] = SLOT(ended, sends, SEND_TRACE_ID);
        args[1] = SLOT(ended, sends, SEND_ID);
        args[6] = SLOT(ended, sends, SEND_START);
        args[7] = SLOT(ended, sends, SEND_END);
        args[9] = SLOT(ended, sends, SEND_OWN);
        flags = SLOT(ended, sends, SEND_FLAGS);
        kind = Py_NewRef(known.producer);
    }
    else if (Py_IS_TYPE(ended, spans.type) && SLOT(ended, spans, SPAN_STATUS) == known.unset &&
             SLOT(ended, spans, SPAN_NOTED) == Py_None && SLOT(ended, spans, SPAN_LINKED) == Py_None &&
             SLOT(ended, spans, SPAN_DROPPED) == known.nothing && SLOT(ended, spans, SPAN_STATE) == Py_None) {
        parent = SLOT(ended, spans, SPAN_PARENT);
        place = SLOT(ended, spans, SPAN_PLACE);
        args[0] = SLOT(ended, spans, SPAN_TRACE_ID);
        args[1] = SLOT(ended, spans, SPAN_ID);
        args[6] = SLOT(ended, spans, SPAN_START);
        args[7] = SLOT(ended, spans, SPAN_END);
        args[9] = SLOT(ended, spans, SPAN_OWN);
        flags = SLOT(ended, spans, SPAN_FLAGS);
    }
    else
        goto twin;
    if (parent == NULL || place == NULL || !Py_IS_TYPE(place, places.type))
        goto twin;
    PyObject *shared = SLOT(place, places, PLACE_ENCODED);
    if (shared == NULL || !PyTuple_CheckExact(shared) || PyTuple_GET_SIZE(shared) != 2)
        goto twin; /* it is the first to this destination */
    long tail = flags == NULL ? -1 : PyLong_AsLong(flags);
    if (tail < 0) {
        PyErr_Clear();
        goto twin;
    }
    tail &= 3;
    args[3] = Py_None;
    if (parent != Py_None) {
        if (!PyTuple_Check(parent) || PyTuple_GET_SIZE(parent) < 3)
            goto twin;
        args[3] = PyTuple_GET_ITEM(parent, 1);
        tail += PyTuple_GET_ITEM(parent, 2) == Py_True ? 4 : 0;
    }
    if (kind == NULL) {
        if (SLOT(ended, spans, SPAN_NAME) != SLOT(place, places, PLACE_NAME) || SLOT(ended, spans, SPAN_KIND) == NULL)
            goto twin;
        PyObject *value = PyObject_GetAttr(SLOT(ended, spans, SPAN_KIND), known.value);
        if (value == NULL)
            return NULL;
        long number = PyLong_AsLong(value);
        Py_DECREF(value);
        if ((number == -1 && PyErr_Occurred()) || (kind = PyLong_FromLong(number + 1)) == NULL)
            return NULL;
    }
    args[2] = known.no_bytes;
    args[4] = PyTuple_GET_ITEM(shared, 0);
    args[5] = kind;
    args[8] = PyTuple_GET_ITEM(shared, 1);
    args[10] = PyTuple_GET_ITEM(known.tails, tail);
    for (size_t i = 0; i < 11; i++)
        if (args[i] == NULL)
            goto twin; /* it says what is missing */
    PyObject *whole = span(NULL, args, 11);
    Py_DECREF(kind);
    return whole;

twin:
    Py_XDECREF(kind);
    return PyObject_CallOneArg(known.encode, ended);
}

/* The provider of a lean tracer if it is one of ours whose spans nobody else sees; NULL where it is not. */
static PyObject *
provider_alone(PyObject *tracer)
{
    if (tracer == NULL || !Py_IS_TYPE(tracer, tracers.type))
        return NULL;
    PyObject *provider = SLOT(tracer, tracers, TRACER_PROVIDER);
    if (provider == NULL || !Py_IS_TYPE(provider, providers.type))
        return NULL;
    PyObject *processors = SLOT(provider, providers, PROVIDER_PROCESSORS);
    return processors != NULL && PyTuple_CheckExact(processors) && PyTuple_GET_SIZE(processors) == 0 ? provider : NULL;
}

static int
forget_hop(PyObject *in_progress, PyObject *hop)
{
    PyObject *key = PyLong_FromVoidPtr(hop);
    if (key == NULL)
        return -1;
    int failed = PyDict_DelItem(in_progress, key) < 0;
    Py_DECREF(key);
    if (failed && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
        failed = 0;
    }
    return failed ? -1 : 0;
}

/* Make current again what was so before a hop, if the hop still is the current one. */
static int
detach(PyObject *hop)
{
    PyObject *before = SLOT(hop, hops, HOP_BEFORE);
    if (before == NULL || before == Py_None)
        return 0;
    SLOT(hop, hops, HOP_BEFORE) = Py_NewRef(Py_None);
    PyObject *current = PyObject_CallNoArgs(known.get_current), *token = NULL;
    int failed = current == NULL;
    if (current == SLOT(hop, hops, HOP_CONTEXT)) {
        token = PyObject_CallOneArg(known.attach, before);
        failed = token == NULL;
    }
    Py_XDECREF(token);
    Py_XDECREF(current);
    Py_DECREF(before);
    return failed ? -1 : 0;
}

/* Whether our own queue has taken what ended, as `SpanQueue.put` does where there is nothing else to see to; 0: it has to be asked.
   What cannot be written is met there again, and counted. */
static int
queued(PyObject *queue, PyObject *tracer, PyObject *ended)
{
    if (!Py_IS_TYPE(queue, queues.type) || !can_write)
        return 0;
    PyObject *waiting = SLOT(queue, queues, QUEUE_ENDED), *room = SLOT(queue, queues, QUEUE_ROOM),
             *stir_at = SLOT(queue, queues, QUEUE_STIR_AT);
    if (waiting == NULL || room == NULL || stir_at == NULL)
        return 0;
    Py_ssize_t most = PyLong_AsSsize_t(room), enough = PyLong_AsSsize_t(stir_at), now = PyObject_Size(waiting) / 2;
    PyObject *whole = now < most && now < enough ? field(NULL, ended) : NULL, *both = whole == NULL ? NULL : PyTuple_Pack(2, tracer, whole);
    Py_XDECREF(whole);
    PyObject *taken = both == NULL ? NULL : PyObject_CallMethodOneArg(waiting, known.extend, both);
    Py_XDECREF(both);
    Py_XDECREF(taken);
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return -1;
        PyErr_Clear();
    }
    return taken != NULL;
}

static int
hand_on(PyObject *provider, PyObject *tracer, PyObject *ended)
{
    PyObject *outlet = SLOT(provider, providers, PROVIDER_OUTLET);
    if (outlet == NULL || outlet == Py_None)
        return 0;
    int done = queued(outlet, tracer, ended);
    if (done != 0)
        return done < 0 ? -1 : 0;
    Py_INCREF(outlet);
    PyObject *taken = PyObject_CallMethodOneArg(outlet, known.put, ended);
    Py_DECREF(outlet);
    Py_XDECREF(taken);
    return taken == NULL ? -1 : 0;
}

static int
end_span(PyObject *span, PyObject *provider, PyObject *time_ns)
{
    Py_CLEAR(SLOT(span, spans, SPAN_OPEN));
    PyObject *now = PyObject_CallNoArgs(time_ns);
    if (now == NULL)
        return -1;
    Py_XSETREF(SLOT(span, spans, SPAN_END), now);
    long flags = PyLong_AsLong(SLOT(span, spans, SPAN_FLAGS));
    if (flags == -1 && PyErr_Occurred())
        return -1;
    PyObject *tracer = SLOT(span, spans, SPAN_TRACER); /* one of ours: its provider was found by it */
    return flags & 1 || SLOT(tracer, tracers, TRACER_LEDGER) == Py_True ? hand_on(provider, tracer, span) : 0;
}

/* end(hop, hops in progress, time_ns): whether an attempt that went well has been ended; False, and nothing done: it is not as most are.
   The twin is what `ProcessHop.end` does then. */
static PyObject *
end(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyDict_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "end takes a hop, a dict of those in progress and a clock");
        return NULL;
    }
    PyObject *hop = args[0];
    if (!can_begin || !Py_IS_TYPE(hop, hops.type) || SLOT(hop, hops, HOP_ENDED) != Py_False || SLOT(hop, hops, HOP_DONE) != Py_None)
        Py_RETURN_FALSE;
    PyObject *span = SLOT(hop, hops, HOP_SPAN);
    if (span == NULL || !Py_IS_TYPE(span, spans.type) || SLOT(span, spans, SPAN_OPEN) == NULL || SLOT(span, spans, SPAN_FLAGS) == NULL)
        Py_RETURN_FALSE;
    PyObject *provider = provider_alone(SLOT(span, spans, SPAN_TRACER));
    if (provider == NULL)
        Py_RETURN_FALSE;
    Py_XSETREF(SLOT(hop, hops, HOP_ENDED), Py_NewRef(Py_True));
    Py_INCREF(span);
    Py_INCREF(provider);
    int failed = forget_hop(args[1], hop) < 0 || detach(hop) < 0;
    if (!failed && SLOT(hop, hops, HOP_OUTCOME) == Py_None)
        Py_SETREF(SLOT(hop, hops, HOP_OUTCOME), Py_NewRef(known.unsettled)); /* its span has said so from the beginning */
    failed = failed || end_span(span, provider, args[2]) < 0;
    Py_DECREF(provider);
    Py_DECREF(span);
    return failed ? NULL : Py_NewRef(Py_True);
}

/* sent(send, outcome, further attributes or None, time_ns): whether a send that went well has been ended; False, and nothing done: it is
   not as most are. The twin is what `LeanSend.end` does then. */
static PyObject *
sent(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "sent takes a send, an outcome, attributes and a clock");
        return NULL;
    }
    PyObject *send = args[0];
    if (!can_begin || !Py_IS_TYPE(send, sends.type) || SLOT(send, sends, SEND_GROWN) != Py_None || SLOT(send, sends, SEND_END) != Py_None)
        Py_RETURN_FALSE;
    PyObject *own = SLOT(send, sends, SEND_OWN), *provider = provider_alone(SLOT(send, sends, SEND_TRACER));
    if (provider == NULL || own == NULL || !PyDict_CheckExact(own))
        Py_RETURN_FALSE;
    if ((args[2] != Py_None && PyDict_Update(own, args[2]) < 0) || PyDict_SetItem(own, known.outcome_key, args[1]) < 0)
        return NULL;
    PyObject *now = PyObject_CallNoArgs(args[3]);
    if (now == NULL)
        return NULL;
    Py_XSETREF(SLOT(send, sends, SEND_END), now);
    Py_INCREF(provider);
    int failed = hand_on(provider, SLOT(send, sends, SEND_TRACER), send) < 0;
    Py_DECREF(provider);
    return failed ? NULL : Py_NewRef(Py_True);
}

/* --- what begins ----------------------------------------------------------------------------------------------------------- */

/* Whether a hop may begin here: our propagator in force as it is by default, nobody else who sees spans or has a say in them, room for
   what it says. See `LeanTracer._is_quick`. */
static int
is_quick(PyObject *tracer, PyObject *place, PyObject *own)
{
    PyObject *propagator = PyDict_GetItemWithError(known.propagate, known.in_force);
    if (propagator == NULL || !Py_IS_TYPE(propagator, propagators.type) ||
        SLOT(propagator, propagators, PROPAGATOR_BY_HAND) != Py_True)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *provider = provider_alone(tracer), *room = provider == NULL ? NULL : SLOT(tracer, tracers, TRACER_ROOM),
             *shared = SLOT(place, places, PLACE_ATTRIBUTES);
    if (room == NULL || shared == NULL || !PyDict_Check(shared))
        return 0;
    if (SLOT(provider, providers, PROVIDER_STANDS_IN) != Py_False &&
        PyDict_GetItemWithError(known.trace, known.provider_set) != provider)
        return PyErr_Occurred() ? -1 : 0;
    if (room == Py_None)
        return 1;
    Py_ssize_t most = PyLong_AsSsize_t(room);
    if (most == -1 && PyErr_Occurred())
        return -1;
    return PyDict_GET_SIZE(own) + PyDict_GET_SIZE(shared) <= most;
}

/* The flags that a hop begins with below a parent of such flags, -1 for none: borrowed, NULL where it is not recorded or the sampler has to
   be asked. */
static PyObject *
begun_with(PyObject *tracer, long inherited)
{
    PyObject *flags = inherited < 0 ? SLOT(tracer, tracers, TRACER_ROOT) : SLOT(tracer, tracers, TRACER_CONTINUED);
    if (inherited >= 0 && flags != NULL)
        flags = PyTuple_CheckExact(flags) && PyTuple_GET_SIZE(flags) == 4 ? PyTuple_GET_ITEM(flags, inherited & 3) : NULL;
    return flags == Py_None ? NULL : flags;
}

/* A random id that is not 0. */
static PyObject *
drawn(PyObject *getrandbits, long bits)
{
    PyObject *wanted = PyLong_FromLong(bits), *id = wanted ? PyObject_CallOneArg(getrandbits, wanted) : NULL;
    Py_XDECREF(wanted);
    if (id != NULL && PyObject_Not(id) == 1)
        Py_SETREF(id, PyLong_FromLong(1));
    return id;
}

/* The span context of a sender, as its class makes it of ids that are valid. */
static PyObject *
sender_context(const Sent *sent, PyObject *trace_id)
{
    PyObject *whole = ((PyTypeObject *)known.span_context)->tp_alloc((PyTypeObject *)known.span_context, 6), *span_id = from_big_endian(sent->ids + 16, 8);
    if (whole == NULL || span_id == NULL) {
        Py_XDECREF(whole);
        Py_XDECREF(span_id);
        return NULL;
    }
    PyTuple_SET_ITEM(whole, 0, Py_NewRef(trace_id));
    PyTuple_SET_ITEM(whole, 1, span_id);
    PyTuple_SET_ITEM(whole, 2, Py_NewRef(Py_True));
    PyTuple_SET_ITEM(whole, 3, Py_NewRef(PyTuple_GET_ITEM(known.flags, sent->ids[24])));
    PyTuple_SET_ITEM(whole, 4, Py_NewRef(known.no_state));
    PyTuple_SET_ITEM(whole, 5, Py_NewRef(Py_True));
    return whole;
}

static PyObject *
new_span(PyObject *tracer, PyObject *place, PyObject *kind, PyObject *own, PyObject *parent, PyObject *trace_id, PyObject *span_id,
    PyObject *flags, PyObject *time_ns)
{
    PyObject *slots[SPAN_SLOTS] = {
        [SPAN_TRACER] = Py_NewRef(tracer),
        [SPAN_NAME] = Py_NewRef(SLOT(place, places, PLACE_NAME)),
        [SPAN_KIND] = Py_NewRef(kind),
        [SPAN_PARENT] = parent,
        [SPAN_TRACE_ID] = trace_id,
        [SPAN_ID] = span_id,
        [SPAN_FLAGS] = Py_NewRef(flags),
        [SPAN_STATE] = Py_NewRef(Py_None),
        [SPAN_OWN] = Py_NewRef(own),
        [SPAN_PLACE] = Py_NewRef(place),
        [SPAN_START] = parent == NULL || span_id == NULL ? NULL : PyObject_CallNoArgs(time_ns),
        [SPAN_END] = Py_NewRef(Py_None),
        [SPAN_STATUS] = Py_NewRef(known.unset),
        [SPAN_DROPPED] = Py_NewRef(known.nothing),
        [SPAN_NOTED] = Py_NewRef(Py_None),
        [SPAN_DROPPED_EVENTS] = Py_NewRef(known.nothing),
        [SPAN_LINKED] = Py_NewRef(Py_None),
        [SPAN_DROPPED_LINKS] = Py_NewRef(known.nothing),
        [SPAN_CONTEXT] = Py_NewRef(Py_None),
        [SPAN_RECORD_EXCEPTION] = Py_NewRef(Py_True),
        [SPAN_SET_STATUS] = Py_NewRef(Py_True),
        [SPAN_OPEN] = Py_NewRef(Py_True),
    };
    return filled(&spans, slots);
}

/* The context of what is done for a message. */
static PyObject *
new_context(PyObject *begun, PyObject *message, const Sent *sent)
{
    PyObject *context = ((PyTypeObject *)known.context)->tp_new((PyTypeObject *)known.context, known.no_arguments, NULL);
    if (context == NULL)
        return NULL;
    int failed = PyDict_SetItem(context, known.span_key, begun) < 0 || PyDict_SetItem(context, known.incoming_key, message) < 0;
    if (!failed && sent != NULL) {
        PyObject *flow = text_of(sent->flow, sizeof sent->flow);
        failed = flow == NULL || PyDict_SetItem(context, known.flow_key, flow) < 0;
        Py_XDECREF(flow);
    }
    if (failed)
        Py_CLEAR(context);
    return context;
}

enum { BEGUN = 1, LEFT = 0 }; /* or FAILED; what is left is left to Python, and nothing is done yet */

typedef struct {
    PyObject *tracer, *place, *kind, *carrier, *own, *getrandbits, *time_ns;
} Arrival;

/* A span below the sender in the carrier, and the context of what is done for the message; both are new. */
static int
begin_span(const Arrival *arrival, PyObject **span, PyObject **context)
{
    PyObject *own = arrival->own, *parent, *trace_id, *flags, *message;
    Sent sent;
    int quick = is_quick(arrival->tracer, arrival->place, own);
    if (quick <= 0)
        return quick;
    int found = read_sender(arrival->carrier, &sent);
    if (found == FAILED || found == UNUSUAL)
        return found == FAILED ? FAILED : LEFT;
    message = found == NOBODY ? Py_NewRef(Py_None) : sent.message;
    flags = begun_with(arrival->tracer, found == NOBODY ? -1 : sent.ids[24]);
    if (flags == NULL) {
        Py_DECREF(message);
        return LEFT;
    }
    if (found == NOBODY) {
        parent = Py_NewRef(Py_None);
        trace_id = drawn(arrival->getrandbits, 128);
    }
    else {
        trace_id = from_big_endian(sent.ids, 16);
        parent = trace_id == NULL ? NULL : sender_context(&sent, trace_id);
    }
    PyObject *span_id = trace_id == NULL || parent == NULL ? NULL : drawn(arrival->getrandbits, 64);
    *span = new_span(arrival->tracer, arrival->place, arrival->kind, own, parent, trace_id, span_id, flags, arrival->time_ns);
    *context = NULL;
    if (*span != NULL && (message == Py_None || PyDict_SetItem(own, known.message_key, message) == 0))
        *context = new_context(*span, message, found == SOMEBODY ? &sent : NULL);
    Py_DECREF(message);
    if (*context == NULL)
        Py_CLEAR(*span);
    return *context == NULL ? FAILED : BEGUN;
}

static int
is_place(PyObject *place)
{
    return can_begin && Py_IS_TYPE(place, places.type) && SLOT(place, places, PLACE_NAME) != NULL;
}

/* begin(tracer, place, kind, headers, own, getrandbits, time_ns): a span below the sender and the context of what is done for the message;
   None where more is to be heeded than ids. */
static PyObject *
begin(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    if (count != 7 || !is_place(args[1]) || !PyDict_CheckExact(args[4])) {
        PyErr_SetString(PyExc_TypeError, "begin takes a tracer, a place, a kind, headers, a dict, a source of random bits and a clock");
        return NULL;
    }
    Arrival arrival = {args[0], args[1], args[2], args[3], args[4], args[5], args[6]};
    PyObject *span, *context, *both;
    int begun = begin_span(&arrival, &span, &context);
    if (begun == FAILED)
        return NULL;
    if (begun == LEFT)
        Py_RETURN_NONE;
    both = PyTuple_Pack(2, span, context);
    Py_DECREF(span);
    Py_DECREF(context);
    return both;
}

static int
watch(PyObject *in_progress, PyObject *hop)
{
    PyObject *key = PyLong_FromVoidPtr(hop);
    int failed = key == NULL || PyDict_SetItem(in_progress, key, hop) < 0;
    Py_XDECREF(key);
    return failed ? -1 : 0;
}

/* attempt(tracer, place, headers, own, how it is settled, what is current or None, hops in progress, getrandbits, time_ns, monotonic):
   an attempt at a message, watched, and current where it is told what was so before; None where more is to be heeded than ids. */
static PyObject *
attempt(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    if (count != 10 || !is_place(args[1]) || !PyDict_CheckExact(args[3]) || !PyDict_Check(args[6])) {
        PyErr_SetString(PyExc_TypeError, "attempt takes a tracer, a place, headers, a dict, an outcome, a context, a dict of hops in "
                                         "progress, a source of random bits and two clocks");
        return NULL;
    }
    Arrival arrival = {args[0], args[1], known.consumer, args[2], args[3], args[7], args[8]};
    PyObject *before = args[5], *span, *context, *token;
    int begun = begin_span(&arrival, &span, &context);
    if (begun == FAILED)
        return NULL;
    if (begun == LEFT)
        Py_RETURN_NONE;
    PyObject *slots[HOP_SLOTS] = {
        [HOP_TRACER] = Py_NewRef(args[0]),
        [HOP_SPAN] = span,
        [HOP_CONTEXT] = context,
        [HOP_ATTRIBUTES] = Py_NewRef(args[3]),
        [HOP_PLACE] = Py_NewRef(args[1]),
        [HOP_OUTCOME] = Py_NewRef(args[4]),
        [HOP_ENDED] = Py_NewRef(Py_False),
        [HOP_DONE] = Py_NewRef(Py_None),
        [HOP_ERROR_TYPE] = Py_NewRef(Py_None),
        [HOP_BEFORE] = Py_NewRef(before),
        [HOP_STARTED] = PyObject_CallNoArgs(args[9]),
    };
    PyObject *hop = filled(&hops, slots);
    if (hop == NULL)
        return NULL;
    int failed = watch(args[6], hop) < 0;
    if (!failed && before != Py_None) {
        failed = (token = PyObject_CallOneArg(known.attach, context)) == NULL;
        Py_XDECREF(token);
    }
    if (failed)
        Py_CLEAR(hop);
    return hop;
}

/* The span context that a send in this context is below: a new reference, None for none. */
static PyObject *
above_in(PyObject *context)
{
    PyObject *current = PyDict_GetItemWithError(context, known.span_key);
    if (current == NULL)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    if (Py_IS_TYPE(current, spans.type)) {
        PyObject *own = SLOT(current, spans, SPAN_CONTEXT);
        if (own != NULL && own != Py_None)
            return Py_NewRef(own);
    }
    return PyObject_CallMethodNoArgs(current, known.get_span_context);
}

/* Whether the flow in a context is the trace of a span context, or there is none. */
static int
is_own_flow(PyObject *context, PyObject *above)
{
    unsigned char trace_id[16], text[32];
    size_t size;
    PyObject *flow = PyDict_GetItemWithError(context, known.flow_key);
    if (flow == NULL)
        return PyErr_Occurred() ? -1 : 1;
    const unsigned char *said = above == Py_None ? NULL : characters(flow, &size);
    if (said == NULL || size != sizeof text)
        return 0;
    if (big_endian(PyTuple_GET_ITEM(above, 0), trace_id, sizeof trace_id) < 0)
        return -1;
    hex(text, trace_id, sizeof trace_id);
    return !memcmp(said, text, sizeof text);
}

static int
put_ids(PyObject *carrier, PyObject *setter, PyObject *parent, PyObject *message_id)
{
    if (setter == known.setter && PyDict_CheckExact(carrier))
        return PyDict_SetItem(carrier, known.traceparent, parent) < 0 || PyDict_SetItem(carrier, known.hopwatch_id, message_id) < 0 ? -1 : 0;
    PyObject *at_once = PyObject_GetAttr(setter, known.ids), *done;
    if (at_once != NULL) {
        done = PyObject_CallFunctionObjArgs(at_once, carrier, parent, message_id, NULL);
        Py_DECREF(at_once);
    }
    else {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return -1;
        PyErr_Clear();
        done = PyObject_CallMethodObjArgs(setter, known.set, carrier, known.traceparent, parent, NULL);
        if (done != NULL)
            Py_SETREF(done, PyObject_CallMethodObjArgs(setter, known.set, carrier, known.hopwatch_id, message_id, NULL));
    }
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* send(tracer, place, context, own, message_id, carrier, setter, getrandbits, time_ns): a send in this context, its ids in the carrier; None
   where more is to be heeded or travels than ids. */
static PyObject *
send(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    if (count != 9 || !is_place(args[1]) || !PyDict_Check(args[2]) || !PyDict_CheckExact(args[3])) {
        PyErr_SetString(PyExc_TypeError, "send takes a tracer, a place, a context, a dict, a message id, a carrier and its setter, a source "
                                         "of random bits and a clock");
        return NULL;
    }
    PyObject *context = args[2], *own = args[3], *message_id = args[4], *trace_id = NULL, *flags = NULL;
    int quick = is_quick(args[0], args[1], own), carries_more = quick <= 0 ? 0 : PyDict_Contains(context, known.baggage_key);
    if (quick < 0 || carries_more < 0)
        return NULL;
    if (!quick || carries_more)
        Py_RETURN_NONE;
    PyObject *above = above_in(context);
    if (above == NULL)
        return NULL;
    long inherited = -1;
    if (above != Py_None) {
        int usual = Py_IS_TYPE(above, (PyTypeObject *)known.span_context) && PyTuple_GET_SIZE(above) == 6 &&
                    PyTuple_GET_ITEM(above, 4) == known.no_state && PyTuple_GET_ITEM(above, 5) == Py_True;
        if (!usual)
            goto left;
        inherited = PyLong_AsLong(PyTuple_GET_ITEM(above, 3));
        if (inherited == -1 && PyErr_Occurred())
            goto failed;
    }
    flags = begun_with(args[0], inherited);
    if (flags == NULL)
        goto left;
    int own_flow = is_own_flow(context, above);
    if (own_flow < 0)
        goto failed;
    if (!own_flow)
        goto left;
    trace_id = above == Py_None ? drawn(args[7], 128) : Py_NewRef(PyTuple_GET_ITEM(above, 0));
    PyObject *span_id = trace_id == NULL ? NULL : drawn(args[7], 64);
    PyObject *slots[SEND_SLOTS] = {
        [SEND_TRACER] = Py_NewRef(args[0]),
        [SEND_PARENT] = above,
        [SEND_TRACE_ID] = trace_id,
        [SEND_ID] = span_id,
        [SEND_FLAGS] = Py_NewRef(flags),
        [SEND_OWN] = Py_NewRef(own),
        [SEND_PLACE] = Py_NewRef(args[1]),
        [SEND_START] = span_id == NULL ? NULL : PyObject_CallNoArgs(args[8]),
        [SEND_END] = Py_NewRef(Py_None),
        [SEND_MESSAGE] = Py_NewRef(message_id),
        [SEND_GROWN] = Py_NewRef(Py_None),
    };
    PyObject *made = filled(&sends, slots);
    if (made == NULL)
        return NULL;
    PyObject *ids[3] = {trace_id, span_id, flags}, *parent = traceparent(NULL, ids, 3);
    if (parent == NULL || PyDict_SetItem(own, known.message_key, message_id) < 0 || put_ids(args[5], args[6], parent, message_id) < 0)
        Py_CLEAR(made);
    Py_XDECREF(parent);
    return made;

left:
    Py_DECREF(above);
    Py_RETURN_NONE;
failed:
    Py_DECREF(above);
    return NULL;
}

static PyMethodDef methods[] = {
    {"span", (PyCFunction)(void (*)(void))span, METH_FASTCALL, NULL},
    {"fall_back_on", fall_back_on, METH_O, NULL},
    {"learn", (PyCFunction)(void (*)(void))learn, METH_VARARGS | METH_KEYWORDS, NULL},
    {"field", field, METH_O, NULL},
    {"begin", (PyCFunction)(void (*)(void))begin, METH_FASTCALL, NULL},
    {"attempt", (PyCFunction)(void (*)(void))attempt, METH_FASTCALL, NULL},
    {"end", (PyCFunction)(void (*)(void))end, METH_FASTCALL, NULL},
    {"sent", (PyCFunction)(void (*)(void))sent, METH_FASTCALL, NULL},
    {"send", (PyCFunction)(void (*)(void))send, METH_FASTCALL, NULL},
    {"traceparent", (PyCFunction)(void (*)(void))traceparent, METH_FASTCALL, NULL},
    {"parent", parent, METH_O, NULL},
    {"sender", sender, METH_O, NULL},
    {"mint", mint, METH_O, NULL},
    {"forget", forget, METH_NOARGS, NULL},
    {"is_uuid", is_uuid, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, prepare}, {0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "hopwatch._native", NULL, 0, methods, module_slots, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}

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

/* --- spans as objects ----------------------------------------------------------------------------------------------------- */

/* Where instances of a class keep their __slots__: read and filled here as Python would, without asking for each by name. */
typedef struct {
    PyTypeObject *type;
    Py_ssize_t at[22];
} Layout;

#define SLOT(object, layout, name) (*(PyObject **)((char *)(object) + (layout).at[name]))

/* Whether the class has these slots; another Python may lay objects out otherwise, and then Python does the work. */
static int
learn(Layout *layout, PyTypeObject *type, const char *const names[], size_t count)
{
    Layout found = {(PyTypeObject *)Py_NewRef(type), {0}};
    for (size_t i = 0; i < count; i++) {
        PyObject *slot = PyObject_GetAttrString((PyObject *)type, names[i]);
        int known = slot != NULL && Py_IS_TYPE(slot, &PyMemberDescr_Type) && ((PyMemberDescrObject *)slot)->d_member->type == T_OBJECT_EX;
        if (known)
            found.at[i] = ((PyMemberDescrObject *)slot)->d_member->offset;
        Py_XDECREF(slot);
        if (!known) {
            PyErr_Clear();
            Py_DECREF(type);
            return 0;
        }
    }
    Py_XDECREF(layout->type);
    *layout = found;
    return 1;
}

enum { SPAN_TRACER, SPAN_NAME, SPAN_KIND, SPAN_PARENT, SPAN_TRACE_ID, SPAN_ID, SPAN_FLAGS, SPAN_STATE, SPAN_OWN, SPAN_PLACE, SPAN_START,
       SPAN_END, SPAN_STATUS, SPAN_DROPPED, SPAN_NOTED, SPAN_DROPPED_EVENTS, SPAN_LINKED, SPAN_DROPPED_LINKS, SPAN_CONTEXT,
       SPAN_RECORD_EXCEPTION, SPAN_SET_STATUS, SPAN_OPEN, SPAN_SLOTS };
static const char *const span_slots[] = {"_tracer", "_name", "_kind", "_parent", "_trace_id", "_span_id", "_trace_flags", "_trace_state",
    "_own", "_place", "_start_time", "_end_time", "_status", "_dropped_attributes", "_noted", "_dropped_events", "_linked",
    "_dropped_links", "_cached_context", "_record_exception", "_set_status_on_exception", "_open"};

enum { SEND_TRACER, SEND_PARENT, SEND_TRACE_ID, SEND_ID, SEND_FLAGS, SEND_OWN, SEND_PLACE, SEND_START, SEND_END, SEND_MESSAGE, SEND_GROWN,
       SEND_SLOTS };
static const char *const send_slots[] = {"_tracer", "parent", "trace_id", "span_id", "_flags", "own", "place", "start_time", "end_time",
    "message_id", "_grown"};

enum { PLACE_NAME, PLACE_ENCODED, PLACE_SLOTS };
static const char *const place_slots[] = {"span_name", "encoded"};

static Layout spans, sends, places;

/* What ended spans are written with. */
static struct {
    PyObject *unset, *tails, *twin, *value, *no_state, *producer, *nothing;
} ending;

static int
learn_classes(PyTypeObject *span_type, PyTypeObject *send_type, PyTypeObject *place_type)
{
    return learn(&spans, span_type, span_slots, SPAN_SLOTS) && learn(&sends, send_type, send_slots, SEND_SLOTS) &&
           learn(&places, place_type, place_slots, PLACE_SLOTS);
}

/* learn_field(span's class, send's class, place's class, the status of most, two tails, a send's kind, the twin of `field`): whether
   `field` can do its work. */
static PyObject *
learn_field(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyTypeObject *span_type, *send_type, *place_type;
    PyObject *unset, *tails, *producer, *twin;
    if (!PyArg_ParseTuple(args, "O!O!O!OO!OO", &PyType_Type, &span_type, &PyType_Type, &send_type, &PyType_Type, &place_type, &unset,
            &PyTuple_Type, &tails, &producer, &twin))
        return NULL;
    if (PyTuple_GET_SIZE(tails) != 2) {
        PyErr_SetString(PyExc_TypeError, "a tail for parents here and elsewhere");
        return NULL;
    }
    if (!learn_classes(span_type, send_type, place_type))
        Py_RETURN_FALSE;
    Py_XSETREF(ending.unset, Py_NewRef(unset));
    Py_XSETREF(ending.tails, Py_NewRef(tails));
    Py_XSETREF(ending.producer, Py_NewRef(producer));
    Py_XSETREF(ending.twin, Py_NewRef(twin));
    Py_XSETREF(ending.value, PyUnicode_InternFromString("_value_"));
    Py_XSETREF(ending.no_state, PyBytes_FromStringAndSize(NULL, 0));
    Py_XSETREF(ending.nothing, PyLong_FromLong(0));
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_TRUE;
}

/* An ended span with a place and nothing unusual, or a send, as the field it is in its scope; all else is left to the twin. */
static PyObject *
field(PyObject *Py_UNUSED(self), PyObject *ended)
{
    PyObject *args[11] = {0}, *parent, *place, *kind = NULL;
    if (Py_IS_TYPE(ended, sends.type)) {
        parent = SLOT(ended, sends, SEND_PARENT);
        place = SLOT(ended, sends, SEND_PLACE);
        args[0] = SLOT(ended, sends, SEND_TRACE_ID);
        args[1] = SLOT(ended, sends, SEND_ID);
        args[6] = SLOT(ended, sends, SEND_START);
        args[7] = SLOT(ended, sends, SEND_END);
        args[9] = SLOT(ended, sends, SEND_OWN);
        kind = Py_NewRef(ending.producer);
    }
    else if (Py_IS_TYPE(ended, spans.type) && SLOT(ended, spans, SPAN_STATUS) == ending.unset &&
             SLOT(ended, spans, SPAN_NOTED) == Py_None && SLOT(ended, spans, SPAN_LINKED) == Py_None &&
             SLOT(ended, spans, SPAN_DROPPED) == ending.nothing && SLOT(ended, spans, SPAN_STATE) == Py_None) {
        parent = SLOT(ended, spans, SPAN_PARENT);
        place = SLOT(ended, spans, SPAN_PLACE);
        args[0] = SLOT(ended, spans, SPAN_TRACE_ID);
        args[1] = SLOT(ended, spans, SPAN_ID);
        args[6] = SLOT(ended, spans, SPAN_START);
        args[7] = SLOT(ended, spans, SPAN_END);
        args[9] = SLOT(ended, spans, SPAN_OWN);
    }
    else
        goto twin;
    if (parent == NULL || place == NULL || !Py_IS_TYPE(place, places.type))
        goto twin;
    PyObject *shared = SLOT(place, places, PLACE_ENCODED);
    if (shared == NULL || !PyTuple_CheckExact(shared) || PyTuple_GET_SIZE(shared) != 2)
        goto twin; /* it is the first to this destination */
    int remote = 0;
    args[3] = Py_None;
    if (parent != Py_None) {
        if (!PyTuple_Check(parent) || PyTuple_GET_SIZE(parent) < 3)
            goto twin;
        args[3] = PyTuple_GET_ITEM(parent, 1);
        remote = PyTuple_GET_ITEM(parent, 2) == Py_True;
    }
    if (kind == NULL) {
        if (SLOT(ended, spans, SPAN_NAME) != SLOT(place, places, PLACE_NAME) || SLOT(ended, spans, SPAN_KIND) == NULL)
            goto twin;
        PyObject *value = PyObject_GetAttr(SLOT(ended, spans, SPAN_KIND), ending.value);
        if (value == NULL)
            return NULL;
        long number = PyLong_AsLong(value);
        Py_DECREF(value);
        if ((number == -1 && PyErr_Occurred()) || (kind = PyLong_FromLong(number + 1)) == NULL)
            return NULL;
    }
    args[2] = ending.no_state;
    args[4] = PyTuple_GET_ITEM(shared, 0);
    args[5] = kind;
    args[8] = PyTuple_GET_ITEM(shared, 1);
    args[10] = PyTuple_GET_ITEM(ending.tails, remote);
    for (size_t i = 0; i < 11; i++)
        if (args[i] == NULL)
            goto twin; /* it says what is missing */
    PyObject *whole = span(NULL, args, 11);
    Py_DECREF(kind);
    return whole;

twin:
    Py_XDECREF(kind);
    return PyObject_CallOneArg(ending.twin, ended);
}

/* What spans are begun with. */
static struct {
    PyObject *flags, *continued, *root, *no_state, *message_key, *span_key, *incoming_key, *flow_key, *unset, *nothing, *no_arguments;
    PyTypeObject *span_context, *context;
} beginning;

/* learn_begin(span's class, send's class, place's class, span context's class, context's class, all trace flags, those that go on by
   their lower two bits or None, a root's, the empty tracestate, the attribute of the message id, three keys of contexts, the status of
   most): whether `begin` and `send` can do their work. */
static PyObject *
learn_begin(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyTypeObject *span_type, *send_type, *place_type, *span_context, *context;
    PyObject *flags, *continued, *root, *no_state, *message_key, *span_key, *incoming_key, *flow_key, *unset;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!O!O!OOOOOOO", &PyType_Type, &span_type, &PyType_Type, &send_type, &PyType_Type, &place_type,
            &PyType_Type, &span_context, &PyType_Type, &context, &PyTuple_Type, &flags, &PyTuple_Type, &continued, &root, &no_state,
            &message_key, &span_key, &incoming_key, &flow_key, &unset))
        return NULL;
    if (!PyType_IsSubtype(span_context, &PyTuple_Type) || !PyType_IsSubtype(context, &PyDict_Type) || PyTuple_GET_SIZE(flags) != 256 ||
        PyTuple_GET_SIZE(continued) != 4) {
        PyErr_SetString(PyExc_TypeError, "span contexts are tuples, contexts are dicts, and there are 256 trace flags");
        return NULL;
    }
    if (!learn_classes(span_type, send_type, place_type))
        Py_RETURN_FALSE;
    Py_XSETREF(beginning.flags, Py_NewRef(flags));
    Py_XSETREF(beginning.continued, Py_NewRef(continued));
    Py_XSETREF(beginning.root, Py_NewRef(root));
    Py_XSETREF(beginning.no_state, Py_NewRef(no_state));
    Py_XSETREF(beginning.message_key, Py_NewRef(message_key));
    Py_XSETREF(beginning.span_key, Py_NewRef(span_key));
    Py_XSETREF(beginning.incoming_key, Py_NewRef(incoming_key));
    Py_XSETREF(beginning.flow_key, Py_NewRef(flow_key));
    Py_XSETREF(beginning.unset, Py_NewRef(unset));
    Py_XSETREF(beginning.nothing, PyLong_FromLong(0));
    Py_XSETREF(beginning.no_arguments, PyTuple_New(0));
    Py_XSETREF(beginning.span_context, (PyTypeObject *)Py_NewRef(span_context));
    Py_XSETREF(beginning.context, (PyTypeObject *)Py_NewRef(context));
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_TRUE;
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
    PyObject *whole = beginning.span_context->tp_alloc(beginning.span_context, 6), *span_id = from_big_endian(sent->ids + 16, 8);
    if (whole == NULL || span_id == NULL) {
        Py_XDECREF(whole);
        Py_XDECREF(span_id);
        return NULL;
    }
    PyTuple_SET_ITEM(whole, 0, Py_NewRef(trace_id));
    PyTuple_SET_ITEM(whole, 1, span_id);
    PyTuple_SET_ITEM(whole, 2, Py_NewRef(Py_True));
    PyTuple_SET_ITEM(whole, 3, Py_NewRef(PyTuple_GET_ITEM(beginning.flags, sent->ids[24])));
    PyTuple_SET_ITEM(whole, 4, Py_NewRef(beginning.no_state));
    PyTuple_SET_ITEM(whole, 5, Py_NewRef(Py_True));
    return whole;
}

/* A span as its class makes it; `parent`, `trace_id` and `span_id` are taken over, NULL where making them failed. */
static PyObject *
new_span(PyObject *tracer, PyObject *place, PyObject *kind, PyObject *own, PyObject *parent, PyObject *trace_id, PyObject *span_id,
    PyObject *flags, PyObject *time_ns)
{
    PyObject *start = parent == NULL || trace_id == NULL || span_id == NULL ? NULL : PyObject_CallNoArgs(time_ns), *made = NULL;
    if (parent != NULL && trace_id != NULL && span_id != NULL && start != NULL)
        made = spans.type->tp_new(spans.type, beginning.no_arguments, NULL);
    if (made == NULL) {
        Py_XDECREF(parent);
        Py_XDECREF(trace_id);
        Py_XDECREF(span_id);
        Py_XDECREF(start);
        return NULL;
    }
    PyObject *filled[SPAN_SLOTS] = {
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
        [SPAN_START] = start,
        [SPAN_END] = Py_NewRef(Py_None),
        [SPAN_STATUS] = Py_NewRef(beginning.unset),
        [SPAN_DROPPED] = Py_NewRef(beginning.nothing),
        [SPAN_NOTED] = Py_NewRef(Py_None),
        [SPAN_DROPPED_EVENTS] = Py_NewRef(beginning.nothing),
        [SPAN_LINKED] = Py_NewRef(Py_None),
        [SPAN_DROPPED_LINKS] = Py_NewRef(beginning.nothing),
        [SPAN_CONTEXT] = Py_NewRef(Py_None),
        [SPAN_RECORD_EXCEPTION] = Py_NewRef(Py_True),
        [SPAN_SET_STATUS] = Py_NewRef(Py_True),
        [SPAN_OPEN] = Py_NewRef(Py_True),
    };
    for (size_t i = 0; i < SPAN_SLOTS; i++)
        SLOT(made, spans, i) = filled[i];
    return made;
}

/* The context of what is done for a message. */
static PyObject *
new_context(PyObject *begun, PyObject *message, const Sent *sent)
{
    PyObject *context = beginning.context->tp_new(beginning.context, beginning.no_arguments, NULL);
    if (context == NULL)
        return NULL;
    int failed = PyDict_SetItem(context, beginning.span_key, begun) < 0 || PyDict_SetItem(context, beginning.incoming_key, message) < 0;
    if (!failed && sent != NULL) {
        PyObject *flow = text_of(sent->flow, sizeof sent->flow);
        failed = flow == NULL || PyDict_SetItem(context, beginning.flow_key, flow) < 0;
        Py_XDECREF(flow);
    }
    if (failed)
        Py_CLEAR(context);
    return context;
}

/* begin(tracer, place, kind, headers, own, getrandbits, time_ns): a span below the sender and the context of what is done for the message;
   None where the headers say more than ids, or the sender is not sampled. */
static PyObject *
begin(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    if (count != 7 || !Py_IS_TYPE(args[1], places.type) || SLOT(args[1], places, PLACE_NAME) == NULL || !PyDict_CheckExact(args[4]) ||
        beginning.context == NULL) {
        PyErr_SetString(PyExc_TypeError, "begin takes a tracer, a place, a kind, headers, a dict, a source of random bits and a clock");
        return NULL;
    }
    PyObject *getrandbits = args[5], *parent, *trace_id, *flags, *message, *begun, *context, *both = NULL;
    Sent sent;
    int found = read_sender(args[3], &sent);
    if (found == FAILED)
        return NULL;
    if (found == UNUSUAL)
        Py_RETURN_NONE;
    if (found == NOBODY) {
        message = Py_NewRef(Py_None);
        parent = Py_NewRef(Py_None);
        trace_id = drawn(getrandbits, 128);
        flags = beginning.root;
    }
    else {
        message = sent.message;
        flags = PyTuple_GET_ITEM(beginning.continued, sent.ids[24] & 3);
        if (flags == Py_None) {
            Py_DECREF(message);
            Py_RETURN_NONE;
        }
        trace_id = from_big_endian(sent.ids, 16);
        parent = trace_id == NULL ? NULL : sender_context(&sent, trace_id);
    }
    begun = new_span(args[0], args[1], args[2], args[4], parent, trace_id, trace_id == NULL ? NULL : drawn(getrandbits, 64), flags,
        args[6]);
    if (begun != NULL && (message == Py_None || PyDict_SetItem(args[4], beginning.message_key, message) == 0) &&
        (context = new_context(begun, message, found == SOMEBODY ? &sent : NULL)) != NULL) {
        both = PyTuple_Pack(2, begun, context);
        Py_DECREF(context);
    }
    Py_XDECREF(begun);
    Py_DECREF(message);
    return both;
}

/* send(tracer, place, parent, own, message_id, getrandbits, time_ns): a send below `parent`; None where that is not sampled or has a tracestate. */
static PyObject *
send(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    if (count != 7 || !Py_IS_TYPE(args[1], places.type) || !PyDict_CheckExact(args[3]) || beginning.context == NULL) {
        PyErr_SetString(PyExc_TypeError, "send takes a tracer, a place, a parent, a dict, a message id, a source of random bits and a clock");
        return NULL;
    }
    PyObject *parent = args[2], *own = args[3], *trace_id, *flags;
    if (parent == Py_None) {
        trace_id = drawn(args[5], 128);
        flags = beginning.root;
    }
    else {
        if (!Py_IS_TYPE(parent, beginning.span_context) || PyTuple_GET_SIZE(parent) != 6 ||
            PyTuple_GET_ITEM(parent, 4) != beginning.no_state || PyTuple_GET_ITEM(parent, 5) != Py_True)
            Py_RETURN_NONE;
        long inherited = PyLong_AsLong(PyTuple_GET_ITEM(parent, 3));
        if (inherited == -1 && PyErr_Occurred())
            return NULL;
        flags = PyTuple_GET_ITEM(beginning.continued, inherited & 3);
        if (flags == Py_None)
            Py_RETURN_NONE;
        trace_id = Py_NewRef(PyTuple_GET_ITEM(parent, 0));
    }
    PyObject *span_id = trace_id == NULL ? NULL : drawn(args[5], 64), *start = span_id == NULL ? NULL : PyObject_CallNoArgs(args[6]),
             *made = NULL;
    if (span_id != NULL && start != NULL && PyDict_SetItem(own, beginning.message_key, args[4]) == 0)
        made = sends.type->tp_new(sends.type, beginning.no_arguments, NULL);
    if (made == NULL) {
        Py_XDECREF(trace_id);
        Py_XDECREF(span_id);
        Py_XDECREF(start);
        return NULL;
    }
    PyObject *filled[SEND_SLOTS] = {
        [SEND_TRACER] = Py_NewRef(args[0]),
        [SEND_PARENT] = Py_NewRef(parent),
        [SEND_TRACE_ID] = trace_id,
        [SEND_ID] = span_id,
        [SEND_FLAGS] = Py_NewRef(flags),
        [SEND_OWN] = Py_NewRef(own),
        [SEND_PLACE] = Py_NewRef(args[1]),
        [SEND_START] = start,
        [SEND_END] = Py_NewRef(Py_None),
        [SEND_MESSAGE] = Py_NewRef(args[4]),
        [SEND_GROWN] = Py_NewRef(Py_None),
    };
    for (size_t i = 0; i < SEND_SLOTS; i++)
        SLOT(made, sends, i) = filled[i];
    return made;
}

static PyMethodDef methods[] = {
    {"span", (PyCFunction)(void (*)(void))span, METH_FASTCALL, NULL},
    {"fall_back_on", fall_back_on, METH_O, NULL},
    {"learn_field", learn_field, METH_VARARGS, NULL},
    {"field", field, METH_O, NULL},
    {"learn_begin", learn_begin, METH_VARARGS, NULL},
    {"begin", (PyCFunction)(void (*)(void))begin, METH_FASTCALL, NULL},
    {"send", (PyCFunction)(void (*)(void))send, METH_FASTCALL, NULL},
    {"traceparent", (PyCFunction)(void (*)(void))traceparent, METH_FASTCALL, NULL},
    {"parent", parent, METH_O, NULL},
    {"sender", sender, METH_O, NULL},
    {"mint", mint, METH_O, NULL},
    {"forget", forget, METH_NOARGS, NULL},
    {"is_uuid", is_uuid, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "hopwatch._native", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}

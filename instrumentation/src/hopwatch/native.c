/* The innermost steps of recording, for those who have a C compiler: each has a twin in Python that says the same. See native.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
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

enum { WRITTEN, NOT_PLAIN, FAILED };

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

static PyObject *
sender(PyObject *Py_UNUSED(self), PyObject *carrier)
{
    Headers headers = {NULL, NULL, 1};
    unsigned char ids[25];
    size_t size;
    static const unsigned char nothing[16];

    if (carrier == Py_None)
        return PyTuple_New(0);
    if (note_all(&headers, carrier) < 0 || !headers.usual)
        Py_RETURN_NONE;
    if (headers.parent == NULL) {
        if (headers.message == NULL)
            return PyTuple_New(0);
        Py_RETURN_NONE;
    }
    const unsigned char *text = characters(headers.parent, &size);
    if (text == NULL || ids_in(text, size, ids) < 0 || !memcmp(ids, nothing, 16) || !memcmp(ids + 16, nothing, 8))
        Py_RETURN_NONE;
    PyObject *message = NULL, *flow = PyUnicode_FromStringAndSize((const char *)text + 3, 32);
    if (headers.message != NULL) {
        if ((text = characters(headers.message, &size)) == NULL) {
            Py_XDECREF(flow);
            Py_RETURN_NONE;
        }
        if (uuid_in(text, size))
            message = PyUnicode_CheckExact(headers.message) ? Py_NewRef(headers.message) : PyUnicode_FromStringAndSize((const char *)text, 36);
        else
            message = Py_NewRef(Py_None);
    }
    else
        message = Py_NewRef(Py_None);
    return Py_BuildValue("NNiNN", from_big_endian(ids, 16), from_big_endian(ids + 16, 8), ids[24], flow, message);
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

static PyMethodDef methods[] = {
    {"span", (PyCFunction)(void (*)(void))span, METH_FASTCALL, NULL},
    {"fall_back_on", fall_back_on, METH_O, NULL},
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

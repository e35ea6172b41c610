/* What is sent on a stream: an answer's message and trailers, or headers alone. */
#ifndef RATECTL_ANSWERS_H
#define RATECTL_ANSWERS_H

#include "streams.h"

#define FIELD(name, value) {(uint8_t *)name, (uint8_t *)value, sizeof name - 1, sizeof value - 1, NO_COPY}
static const Field ANSWER[] = {FIELD(":status", "200"), FIELD("content-type", "application/grpc")};
static const Field SUCCESS[] = {FIELD("grpc-status", "0")};

enum { MOST_FIELDS = 8 };

/* Fields of a tuple of pairs of bytes; returns their number, or -1 with an error. */
static int
read_fields(PyObject *tuple, Field *fields)
{
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count < 0 || count > MOST_FIELDS) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "too many fields");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PyTuple_GetItem(tuple, i);
        char *name, *value;
        Py_ssize_t name_size, value_size;
        if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
            PyErr_SetString(PyExc_TypeError, "a field is a pair of bytes");
            return -1;
        }
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(pair, 0), &name, &name_size) < 0 ||
            PyBytes_AsStringAndSize(PyTuple_GetItem(pair, 1), &value, &value_size) < 0)
            return -1;
        fields[i] = (Field){(uint8_t *)name, (uint8_t *)value, (size_t)name_size,
                            (size_t)value_size, 0};
    }
    return (int)count;
}

static int
send_trailers(Session *session, int32_t id, const Stream *stream)
{
    if (stream->ending == ENDS_WELL)
        return h2_submit_trailer(session, id, SUCCESS, 1);
    Field fields[MOST_FIELDS];
    int count = read_fields(stream->trailers, fields);
    return count < 0 ? FAILED : h2_submit_trailer(session, id, fields, (size_t)count);
}

/* Give nghttp2 the next bytes of an answer. */
static ptrdiff_t
read_answer(Session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags, Source *source,
            void *user)
{
    (void)source;
    Stream *stream = stream_of(user, id);
    if (stream == NULL)
        return RESET_THIS_STREAM;
    size_t left = stream->answer.size - stream->sent, size = left < room ? left : room;
    if (size)
        memcpy(to, stream->answer.data + stream->sent, size);
    stream->sent += size;
    if (size < left)
        return (ptrdiff_t)size;
    drop_bytes(&stream->answer);
    stream->sent = 0;
    if (stream->ending == GOES_ON)
        return size ? (ptrdiff_t)size : NO_MORE_NOW;
    *flags |= LAST_DATA | TRAILERS_FOLLOW;
    return send_trailers(session, id, stream) < 0 ? FAILED : (ptrdiff_t)size;
}

static const Provider PROVIDER = {{0}, read_answer};

/* Send the headers of an answer, whose bytes come from the stream; returns -1 and an error if memory
   is short. */
static int
begin_answer(Connection *c, int32_t id)
{
    if (h2_submit_response(c->session, id, ANSWER, 2, &PROVIDER) != NO_MEMORY)
        return 0;
    PyErr_NoMemory();
    return -1;
}

static bool
add_message(Stream *stream, const char *data, Py_ssize_t size)
{
    uint8_t prefix[PREFIX] = {0, (uint8_t)(size >> 24), (uint8_t)(size >> 16), (uint8_t)(size >> 8),
                              (uint8_t)size};
    return add_bytes(&stream->answer, prefix, PREFIX) &&
           add_bytes(&stream->answer, data, (size_t)size);
}

/* End a call with its answer; returns -1 and an error if memory is short. */
static int
send_answer(Connection *c, int32_t id, PyObject *answer)
{
    Stream *stream = stream_of(c, id);
    if (stream == NULL || !stream->begun || stream->ending != GOES_ON || c->is_over)
        return 0; /* the peer has ended it */
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(answer, &data, &size) < 0)
        return -1;
    if (!add_message(stream, data, size)) {
        PyErr_NoMemory();
        return -1;
    }
    stream->ending = ENDS_WELL;
    return begin_answer(c, id);
}

#endif

/* Calls that are open on one connection, each on a stream of its own. */
#ifndef RATECTL_STREAMS_H
#define RATECTL_STREAMS_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <string.h>

#include "nghttp2.h"

enum { PREFIX = 5 };            /* bytes before a message: a flag of compression, and its length */
enum { LONGEST_PATH = 127 };

/* Bytes that grow. */
typedef struct { uint8_t *data; size_t size, room; } Bytes;

static bool
add_bytes(Bytes *to, const void *data, size_t size)
{
    if (size > to->room - to->size) {
        size_t room = to->room < 128 ? 256 : 2 * to->room;
        while (room < to->size + size)
            room *= 2;
        uint8_t *more = PyMem_Realloc(to->data, room);
        if (more == NULL)
            return false;
        to->data = more;
        to->room = room;
    }
    if (size)
        memcpy(to->data + to->size, data, size);
    to->size += size;
    return true;
}

static void
drop_bytes(Bytes *bytes)
{
    PyMem_Free(bytes->data);
    *bytes = (Bytes){0};
}

/* How an answer ends: not known yet; with `grpc-status: 0`; with fields from Python; with its headers. */
typedef enum { GOES_ON, ENDS_WELL, ENDS_WITH_FIELDS, ENDS_AT_ONCE } Ending;

typedef struct Stream {
    struct Stream *next, **link; /* all streams of the connection */
    size_t headers;              /* bytes of its headers, as HTTP/2 counts them */
    bool begun, is_post, is_grpc, is_long; /* its headers are whole; `is_long`: a part of its path */
    bool streamed;               /* has many messages: Python takes them */
    uint8_t path_size;
    uint8_t path[LONGEST_PATH];
    PyObject *method;            /* to call when the message is whole, or NULL */
    Bytes message;               /* what has arrived of it */
    Bytes answer;                /* what is not sent yet, from `sent` on */
    size_t sent;
    Ending ending;
    PyObject *trailers;          /* of ENDS_WITH_FIELDS */
} Stream;

typedef struct {
    PyObject_HEAD
    Session *session;
    PyObject *methods, *later, *may_wait; /* `later`: called instead of a method that may wait */
    Stream *streams;
    Py_ssize_t most_bytes, most_headers, most_waiting, waiting, calls;
    unsigned long long ended;
    char is_over, is_busy, waits, is_drained; /* `is_drained`: the peer has heard of the end */
    Bytes out;
} Connection;

static Stream *
new_stream(Connection *c)
{
    Stream *stream = PyMem_Calloc(1, sizeof *stream);
    if (stream == NULL)
        return NULL;
    if ((stream->next = c->streams) != NULL)
        stream->next->link = &stream->next;
    stream->link = &c->streams;
    return c->streams = stream;
}

static void
forget_message(Connection *c, Stream *stream)
{
    c->waiting -= (Py_ssize_t)stream->message.size;
    drop_bytes(&stream->message);
    Py_CLEAR(stream->method);
}

static void
drop_stream(Connection *c, Stream *stream)
{
    if ((*stream->link = stream->next) != NULL)
        stream->next->link = stream->link;
    c->calls -= stream->begun;
    forget_message(c, stream);
    drop_bytes(&stream->answer);
    Py_XDECREF(stream->trailers);
    PyMem_Free(stream);
}

static Stream *
stream_of(const Connection *c, int32_t id)
{
    return c->session == NULL || id <= 0 ? NULL : h2_session_get_stream_user_data(c->session, id);
}

#endif

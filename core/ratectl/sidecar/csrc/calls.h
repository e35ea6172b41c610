/* Calls that arrive: what nghttp2 tells of frames, until a message is whole and its method is called. */
#ifndef RATECTL_CALLS_H
#define RATECTL_CALLS_H

#include "answers.h"

static const uint8_t DRAINING[8] = "draining";

/* Call a method of the Python class with a stream and one more argument. */
static PyObject *
call_python(Connection *c, const char *name, int32_t id, PyObject *argument)
{
    if (argument == NULL)
        return NULL;
    PyObject *result = PyObject_CallMethod((PyObject *)c, name, "iO", (int)id, argument);
    Py_DECREF(argument);
    return result;
}

static int
refuse(Connection *c, Stream *stream, int32_t id, const char *why)
{
    forget_message(c, stream);
    PyObject *result = call_python(c, "_refuse", id, PyUnicode_FromString(why));
    Py_XDECREF(result);
    return result == NULL ? FAILED : 0;
}

/* Call a method and send what it returns; returns -1 and an error if that fails. */
static int
run_method(Connection *c, int32_t id, PyObject *method, PyObject *message)
{
    PyObject *answer = PyObject_CallFunctionObjArgs(method, message, NULL);
    if (answer != NULL) {
        int result = send_answer(c, id, answer);
        Py_DECREF(answer);
        return result;
    }
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(error, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    PyObject *told = call_python(c, "_failed", id, error);
    Py_XDECREF(told);
    return told == NULL ? -1 : 0;
}

/* Give a method that may wait to Python, which may answer later. */
static int
run_later(Connection *c, int32_t id, PyObject *method, PyObject *message)
{
    PyObject *number = PyLong_FromLong(id);
    if (number == NULL)
        return -1;
    PyObject *sent = NULL,
             *answer = PyObject_CallFunctionObjArgs(c->later, method, message, c, number, NULL);
    if (answer == Py_None)
        sent = Py_NewRef(Py_None);
    else if (answer != NULL)
        sent = PyObject_CallMethod((PyObject *)c, "answer", "OO", number, answer);
    Py_XDECREF(answer);
    Py_XDECREF(sent);
    Py_DECREF(number);
    return sent == NULL ? -1 : 0;
}

/* Run the method of a call whose message is whole. */
static int
answer_call(Connection *c, Stream *stream, int32_t id)
{
    Bytes *message = &stream->message;
    const uint8_t *data = message->data;
    size_t size = message->size;
    if (size && data[0] == 1)
        return refuse(c, stream, id, "compressed");
    if (size < PREFIX || data[0] || ((size_t)data[1] << 24 | (size_t)data[2] << 16 |
                                     (size_t)data[3] << 8 | data[4]) != size - PREFIX)
        return refuse(c, stream, id, "not whole");
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)data + PREFIX,
                                                (Py_ssize_t)(size - PREFIX));
    PyObject *method = Py_NewRef(stream->method);
    forget_message(c, stream);
    int result = bytes == NULL ? -1 : c->waits ? run_later(c, id, method, bytes)
                                               : run_method(c, id, method, bytes);
    Py_XDECREF(bytes);
    Py_DECREF(method);
    return result < 0 ? FAILED : 0;
}

/* Begin a call whose headers are whole. */
static int
begin_call(Connection *c, Stream *stream, int32_t id, bool is_end)
{
    stream->begun = true;
    c->calls++;
    PyObject *path = PyBytes_FromStringAndSize((char *)stream->path,
                                               stream->is_long ? 0 : stream->path_size);
    if (path == NULL)
        return FAILED;
    PyObject *method = PyDict_GetItemWithError(c->methods, path);
    if (method != NULL && stream->is_post && stream->is_grpc) {
        Py_DECREF(path);
        stream->method = Py_NewRef(method);
        return is_end ? answer_call(c, stream, id) : 0;
    }
    if (method == NULL && PyErr_Occurred()) {
        Py_DECREF(path);
        return FAILED;
    }
    PyObject *found = PyObject_CallMethod((PyObject *)c, "_begin", "iNNNN", (int)id, path,
                                          PyBool_FromLong(stream->is_post),
                                          PyBool_FromLong(stream->is_grpc), PyBool_FromLong(is_end));
    if (found == NULL)
        return FAILED;
    if ((stream = stream_of(c, id)) != NULL)
        stream->streamed = found == Py_True;
    Py_DECREF(found);
    return 0;
}

static int
tell_python(Connection *c, const char *name, int32_t id)
{
    PyObject *result = PyObject_CallMethod((PyObject *)c, name, "i", (int)id);
    Py_XDECREF(result);
    return result == NULL ? FAILED : 0;
}

/* What nghttp2 tells of ---------------------------------------------------------------------------- */

static int
on_begin_headers(Session *session, const FrameHead *head, void *user)
{
    if (h2_session_get_stream_user_data(session, head->stream) != NULL)
        return 0; /* trailers */
    Stream *stream = new_stream(user);
    if (stream == NULL)
        return FAILED;
    return h2_session_set_stream_user_data(session, head->stream, stream) == 0 ? 0 : FAILED;
}

static bool
is_text(const uint8_t *data, size_t size, const char *text)
{
    return size == strlen(text) && memcmp(data, text, size) == 0;
}

static bool
is_grpc_type(const uint8_t *value, size_t size)
{
    const uint8_t *end = size ? memchr(value, ';', size) : NULL;
    size = end == NULL ? size : (size_t)(end - value);
    return is_text(value, size, "application/grpc") || is_text(value, size, "application/grpc+proto");
}

static int
on_header(Session *session, const FrameHead *head, const uint8_t *name, size_t name_size,
          const uint8_t *value, size_t value_size, uint8_t flags, void *user)
{
    (void)flags;
    Connection *c = user;
    Stream *stream = h2_session_get_stream_user_data(session, head->stream);
    if (stream == NULL)
        return 0;
    stream->headers += name_size + value_size + 32;
    if (stream->headers > (size_t)c->most_headers) {
        c->is_over = 1; /* a compressed header may stand for millions of bytes */
        return FAILED;
    }
    if (stream->begun)
        return 0;
    if (is_text(name, name_size, ":method"))
        stream->is_post = is_text(value, value_size, "POST");
    else if (is_text(name, name_size, "content-type"))
        stream->is_grpc = is_grpc_type(value, value_size);
    else if (is_text(name, name_size, ":path")) {
        stream->is_long = value_size > LONGEST_PATH;
        stream->path_size = (uint8_t)(stream->is_long ? 0 : value_size);
        memcpy(stream->path, value, stream->path_size);
    }
    return 0;
}

static int
on_chunk(Session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t size, void *user)
{
    Connection *c = user;
    Stream *stream = h2_session_get_stream_user_data(session, id);
    if (stream == NULL)
        return 0;
    if (stream->streamed) {
        PyObject *result = call_python(
            c, "_add", id, PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size));
        Py_XDECREF(result);
        return result == NULL ? FAILED : 0;
    }
    if (stream->method == NULL) /* it has been answered */
        return 0;
    if (stream->message.size + size > (size_t)c->most_bytes + PREFIX)
        return refuse(c, stream, id, "too large");
    if (!add_bytes(&stream->message, data, size))
        return FAILED;
    c->waiting += (Py_ssize_t)size;
    bool is_last = flags & END_STREAM; /* the message will be whole when this frame is */
    return !is_last && c->waiting > c->most_waiting ? refuse(c, stream, id, "too many") : 0;
}

static int
on_frame(Session *session, const FrameHead *head, void *user)
{
    Connection *c = user;
    if (head->type == PING) {
        const Ping *ping = (const Ping *)head;
        if (head->flags & ACK && memcmp(ping->data, DRAINING, sizeof DRAINING) == 0)
            c->is_drained = 1;
        return 0;
    }
    if (head->type != HEADERS && head->type != DATA)
        return 0;
    Stream *stream = h2_session_get_stream_user_data(session, head->stream);
    if (stream == NULL)
        return 0;
    bool is_end = head->flags & END_STREAM;
    if (!stream->begun)
        return begin_call(c, stream, head->stream, is_end);
    if (!is_end)
        return 0;
    if (stream->streamed)
        return tell_python(c, "_end", head->stream);
    return stream->method == NULL ? 0 : answer_call(c, stream, head->stream);
}

static int
on_close(Session *session, int32_t id, uint32_t error, void *user)
{
    Connection *c = user;
    Stream *stream = h2_session_get_stream_user_data(session, id);
    c->ended++;
    bool streamed = stream != NULL && stream->streamed;
    bool refused = error == PROTOCOL_ERROR && (stream == NULL || !stream->begun);
    if (stream != NULL) {
        h2_session_set_stream_user_data(session, id, NULL);
        drop_stream(c, stream);
    }
    if (streamed && tell_python(c, "_closed", id) < 0)
        return FAILED;
    return refused ? tell_python(c, "_refused_headers", id) : 0;
}

#endif

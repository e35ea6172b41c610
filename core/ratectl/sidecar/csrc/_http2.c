/* Calls of gRPC on one connection of HTTP/2, from bytes to bytes: frames, headers, windows and bounds
   by libnghttp2, calls with one message here, and anything unusual by the Python class above.

   Sources: RFC 9113; github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md. */
#include "calls.h"

#include <structmember.h>

enum { KEPT_ROOM = 64 * 1024 }; /* bytes to send for which a connection keeps the room */
#define RESET_BURST 20000       /* Envoy resets each call that times out: a slow moment must */
#define RESET_RATE 5000         /* not end the connection */
#define MOST_CONTINUATIONS 8

static int
make_session(Connection *c, long most_streams)
{
    Callbacks *callbacks = NULL;
    Options *options = NULL;
    static Callbacks *made_callbacks;
    static Options *made_options;
    if (made_callbacks == NULL) {
        if (h2_session_callbacks_new(&callbacks) != 0 || h2_option_new(&options) != 0)
            return -1;
        h2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
        h2_session_callbacks_set_on_header_callback(callbacks, on_header);
        h2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
        h2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        h2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
        h2_option_set_stream_reset_rate_limit(options, RESET_BURST, RESET_RATE);
        h2_option_set_max_continuations(options, MOST_CONTINUATIONS);
        made_callbacks = callbacks;
        made_options = options;
    }
    SettingsEntry settings[] = {{MAX_CONCURRENT_STREAMS, (uint32_t)most_streams},
                                {MAX_HEADER_LIST_SIZE, (uint32_t)c->most_headers},
                                {NO_RFC7540_PRIORITIES, 1}}; /* without them, it keeps no closed streams */
    return h2_session_server_new2(&c->session, made_callbacks, c, made_options) == 0 &&
                   h2_submit_settings(c->session, 0, settings, 3) == 0
               ? 0
               : -1;
}

static PyObject *
connection_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"methods", "later", "may_wait", "most_bytes", "most_headers", "most_streams",
                            "most_waiting", NULL};
    PyObject *methods, *later, *may_wait;
    Py_ssize_t most_bytes, most_headers, most_waiting;
    long most_streams;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OOnnln:Connection", names, &PyDict_Type,
                                     &methods, &later, &may_wait, &most_bytes, &most_headers, &most_streams,
                                     &most_waiting))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Connection *c = (Connection *)allocate(type, 0);
    if (c == NULL)
        return NULL;
    c->methods = Py_NewRef(methods);
    c->later = Py_NewRef(later);
    c->may_wait = Py_NewRef(may_wait);
    c->most_bytes = most_bytes;
    c->most_headers = most_headers;
    c->most_waiting = most_waiting;
    if (make_session(c, most_streams) < 0) {
        Py_DECREF(c);
        return PyErr_NoMemory();
    }
    return (PyObject *)c;
}

static int
connection_traverse(Connection *c, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)c));
    Py_VISIT(c->methods);
    Py_VISIT(c->later);
    Py_VISIT(c->may_wait);
    for (Stream *stream = c->streams; stream != NULL; stream = stream->next) {
        Py_VISIT(stream->method);
        Py_VISIT(stream->trailers);
    }
    return 0;
}

static int
connection_clear(Connection *c)
{
    c->is_over = 1; /* first: what follows may run anything */
    for (Stream *stream = c->streams; stream != NULL; stream = stream->next) {
        Py_CLEAR(stream->method);
        Py_CLEAR(stream->trailers);
    }
    Py_CLEAR(c->methods);
    Py_CLEAR(c->later);
    Py_CLEAR(c->may_wait);
    return 0;
}

static void
connection_dealloc(Connection *c)
{
    PyTypeObject *type = Py_TYPE((PyObject *)c);
    PyObject_GC_UnTrack(c);
    while (c->streams != NULL)
        drop_stream(c, c->streams);
    if (c->session != NULL)
        h2_session_del(c->session); /* calls nothing of the above */
    drop_bytes(&c->out);
    connection_clear(c);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(c);
    Py_DECREF(type);
}

/* Begin work with nghttp2, which is not to be entered twice. */
static bool
enter(Connection *c)
{
    if (c->is_busy) {
        PyErr_SetString(PyExc_RuntimeError, "the connection is in use");
        return false;
    }
    c->is_busy = 1;
    return true;
}

static void
leave(Connection *c)
{
    c->is_busy = 0;
    if (!h2_session_want_read(c->session) && !h2_session_want_write(c->session))
        c->is_over = 1;
}

/* Find out if methods may wait now; returns -1 with an error. */
static int
look_if_waits(Connection *c)
{
    if (c->later == Py_None)
        return 0;
    PyObject *found = PyObject_CallFunctionObjArgs(c->may_wait, NULL);
    int waits = found == NULL ? -1 : PyObject_IsTrue(found);
    Py_XDECREF(found);
    c->waits = waits > 0;
    return waits;
}

static PyObject *
connection_feed(Connection *c, PyObject *data)
{
    Py_buffer bytes;
    if (PyObject_GetBuffer(data, &bytes, PyBUF_SIMPLE) < 0)
        return NULL;
    if (!enter(c)) {
        PyBuffer_Release(&bytes);
        return NULL;
    }
    if (!c->is_over && c->methods != NULL && look_if_waits(c) >= 0 &&
        h2_session_mem_recv(c->session, bytes.buf, (size_t)bytes.len) < 0)
        c->is_over = 1;
    leave(c);
    PyBuffer_Release(&bytes);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyObject *
connection_to_send(Connection *c, PyObject *unused)
{
    (void)unused;
    if (c->is_over)
        return PyBytes_FromStringAndSize(NULL, 0);
    if (!enter(c))
        return NULL;
    if (c->is_drained) { /* what arrived with the ping's answer has been called as well */
        c->is_drained = 0;
        h2_submit_goaway(c->session, 0, h2_session_get_last_proc_stream_id(c->session), 0, NULL, 0);
    }
    Bytes *out = &c->out;
    const uint8_t *data;
    ptrdiff_t size;
    bool fits = true;
    out->size = 0;
    while (fits && (size = h2_session_mem_send(c->session, &data)) > 0)
        fits = add_bytes(out, data, (size_t)size);
    if (fits && size < 0) {
        c->is_over = 1;
        out->size = 0;
    }
    leave(c);
    PyObject *sent = NULL;
    if (!fits)
        PyErr_NoMemory();
    else if (!PyErr_Occurred())
        sent = PyBytes_FromStringAndSize((const char *)out->data, (Py_ssize_t)out->size);
    if (out->room > KEPT_ROOM)
        drop_bytes(out);
    if (sent == NULL)
        c->is_over = 1; /* nghttp2 gives bytes away once */
    return sent;
}

static PyObject *
connection_drain(Connection *c, PyObject *unused)
{
    (void)unused;
    if (!c->is_over) {
        h2_submit_shutdown_notice(c->session);
        h2_submit_ping(c->session, 0, DRAINING);
    }
    return Py_NewRef(Py_None);
}

/* Answers of Python -------------------------------------------------------------------------------- */

/* A number as that of a stream; 0, which no call has, if it cannot be one; -1 and an error. */
static int32_t
stream_number(PyObject *number)
{
    long found = PyLong_AsLong(number);
    if (found == -1 && PyErr_Occurred())
        return -1;
    return found < 0 || found > INT32_MAX ? 0 : (int32_t)found;
}

static PyObject *
connection_is_open(Connection *c, PyObject *number)
{
    int32_t id = stream_number(number);
    if (id < 0)
        return NULL;
    Stream *stream = stream_of(c, id);
    return PyBool_FromLong(!c->is_over && stream != NULL && stream->begun);
}

static PyObject *
connection_send(Connection *c, PyObject *args)
{
    int id;
    PyObject *answer;
    if (!PyArg_ParseTuple(args, "iO!:send", &id, &PyBytes_Type, &answer) ||
        send_answer(c, id, answer) < 0)
        return NULL;
    return Py_NewRef(Py_None);
}

/* The stream that Python may still answer, or NULL. */
static Stream *
answerable(const Connection *c, int32_t id)
{
    Stream *stream = c->is_over ? NULL : stream_of(c, id);
    return stream == NULL || stream->ending != GOES_ON ? NULL : stream;
}

static PyObject *
connection_send_headers(Connection *c, PyObject *args)
{
    int id;
    PyObject *headers;
    Field fields[MOST_FIELDS];
    if (!PyArg_ParseTuple(args, "iO!:send_headers", &id, &PyTuple_Type, &headers))
        return NULL;
    int count = read_fields(headers, fields);
    if (count < 0)
        return NULL;
    Stream *stream = answerable(c, id);
    if (stream != NULL) {
        stream->ending = ENDS_AT_ONCE;
        h2_submit_response(c->session, id, fields, (size_t)count, NULL);
    }
    return Py_NewRef(Py_None);
}

static PyObject *
connection_begin_messages(Connection *c, PyObject *number)
{
    int32_t id = stream_number(number);
    if (id < 0 || (answerable(c, id) != NULL && begin_answer(c, id) < 0))
        return NULL;
    return Py_NewRef(Py_None);
}

static PyObject *
connection_send_message(Connection *c, PyObject *args)
{
    int id;
    PyObject *message;
    char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "iO!:send_message", &id, &PyBytes_Type, &message) ||
        PyBytes_AsStringAndSize(message, &data, &size) < 0)
        return NULL;
    Stream *stream = answerable(c, id);
    if (stream == NULL)
        return Py_NewRef(Py_None);
    if (!add_message(stream, data, size))
        return PyErr_NoMemory();
    h2_session_resume_data(c->session, id);
    return Py_NewRef(Py_None);
}

static PyObject *
connection_end_messages(Connection *c, PyObject *args)
{
    int id;
    PyObject *trailers;
    Field fields[MOST_FIELDS];
    if (!PyArg_ParseTuple(args, "iO!:end_messages", &id, &PyTuple_Type, &trailers) ||
        read_fields(trailers, fields) < 0)
        return NULL;
    Stream *stream = answerable(c, id);
    if (stream != NULL) {
        stream->ending = ENDS_WITH_FIELDS;
        stream->trailers = Py_NewRef(trailers);
        h2_session_resume_data(c->session, id);
    }
    return Py_NewRef(Py_None);
}

static PyMethodDef connection_methods[] = {
    {"feed", (PyCFunction)connection_feed, METH_O, NULL},
    {"to_send", (PyCFunction)connection_to_send, METH_NOARGS, NULL},
    {"drain", (PyCFunction)connection_drain, METH_NOARGS, NULL},
    {"is_open", (PyCFunction)connection_is_open, METH_O, NULL},
    {"send", (PyCFunction)connection_send, METH_VARARGS, NULL},
    {"send_headers", (PyCFunction)connection_send_headers, METH_VARARGS, NULL},
    {"begin_messages", (PyCFunction)connection_begin_messages, METH_O, NULL},
    {"send_message", (PyCFunction)connection_send_message, METH_VARARGS, NULL},
    {"end_messages", (PyCFunction)connection_end_messages, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef connection_members[] = {
    {"is_over", T_BOOL, offsetof(Connection, is_over), 0, NULL},
    {"calls", T_PYSSIZET, offsetof(Connection, calls), READONLY, NULL},
    {"ended", T_ULONGLONG, offsetof(Connection, ended), READONLY, NULL},
    {"waiting", T_PYSSIZET, offsetof(Connection, waiting), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot connection_slots[] = {
    {Py_tp_new, connection_new},
    {Py_tp_dealloc, connection_dealloc},
    {Py_tp_traverse, connection_traverse},
    {Py_tp_clear, connection_clear},
    {Py_tp_methods, connection_methods},
    {Py_tp_members, connection_members},
    {0, NULL},
};

static PyType_Spec connection_spec = {
    .name = "ratectl.sidecar._http2.Connection",
    .basicsize = sizeof(Connection),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = connection_slots,
};

static int
module_exec(PyObject *module)
{
    const char *missing = load_nghttp2();
    if (missing != NULL) {
        PyErr_Format(PyExc_ImportError, "%s is not here, or too old: %s is missing", LIBRARY,
                     missing);
        return -1;
    }
    PyObject *type = PyType_FromSpec(&connection_spec);
    int result = type == NULL ? -1 : PyModule_AddObjectRef(module, "Connection", type);
    Py_XDECREF(type);
    return result < 0 ? -1 : PyModule_AddIntConstant(module, "LONGEST_PATH", LONGEST_PATH);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ratectl.sidecar._http2",
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__http2(void)
{
    return PyModuleDef_Init(&module);
}

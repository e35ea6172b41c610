/* Counts of the requests of one identity: `Counters` of buckets/counters.py for this core. */
#ifndef RATECTL_COUNTERS_H
#define RATECTL_COUNTERS_H

#include "traffic.h"

#define TOP 32

typedef struct {
    u64 key;
    i64 count;
    PyObject *shown;
} Refused;

typedef struct {
    PyObject_HEAD
    i64 allowed, refused, never, shadow_refused, waited, absent;
    i64 lowest;
    int has_lowest;
    int top_count;
    Refused *top;   /* the most refused keys; NULL before the first refusal */
    Traffic *traffic;   /* the busiest keys; NULL before the first request */
} Counters;

/* Space-saving (Metwally et al. 2005): a new key takes over the least count.
   0 where the key has no count yet, and so must be shown. */
static inline int
counted_before(Counters *c, u64 key)
{
    for (int i = 0; i < c->top_count; i++)
        if (c->top[i].key == key) {
            c->top[i].count++;
            return 1;
        }
    return 0;
}

/* Begin to count a key. Takes ownership of the reference. */
static void
count_newly(Counters *c, u64 key, PyObject *shown)
{
    PyObject *before = NULL;
    if (c->top == NULL)
        c->top = PyMem_Calloc(TOP, sizeof *c->top);
    if (c->top == NULL || counted_before(c, key)) {
        before = shown;
    } else if (c->top_count < TOP) {
        c->top[c->top_count++] = (Refused){key, 1, shown};
    } else {
        Refused *rarest = c->top;
        for (int i = 1; i < TOP; i++)
            if (c->top[i].count < rarest->count)
                rarest = &c->top[i];
        before = rarest->shown;
        i64 count = rarest->count + 1;
        memmove(rarest, rarest + 1, (size_t)(c->top + TOP - 1 - rarest) * sizeof *rarest);
        c->top[TOP - 1] = (Refused){key, count, shown}; /* of equal counts, the oldest goes first */
    }
    Py_XDECREF(before);
}

static PyObject *
counters_refuse(Counters *c, PyObject *args)
{
    unsigned long long key;
    PyObject *shown;
    int never;
    if (!PyArg_ParseTuple(args, "KOp", &key, &shown, &never))
        return NULL;
    *(never ? &c->never : &c->refused) += 1;
    if (!counted_before(c, key))
        count_newly(c, key, Py_NewRef(shown));
    Py_RETURN_NONE;
}

static PyObject *
counters_refused_keys(Counters *c, void *unused)
{
    (void)unused;
    PyObject *keys = PyDict_New();
    for (int i = 0; keys != NULL && i < c->top_count; i++) {
        PyObject *count = PyLong_FromLongLong(c->top[i].count);
        if (count == NULL || PyDict_SetItem(keys, c->top[i].shown, count) < 0)
            Py_CLEAR(keys);
        Py_XDECREF(count);
    }
    return keys;
}

static PyObject *
counters_get_lowest(Counters *c, void *unused)
{
    (void)unused;
    return c->has_lowest ? PyLong_FromLongLong(c->lowest) : Py_NewRef(Py_None);
}

static int
counters_set_lowest(Counters *c, PyObject *value, void *unused)
{
    (void)unused;
    c->has_lowest = value != NULL && value != Py_None;
    if (c->has_lowest)
        c->lowest = PyLong_AsLongLong(value);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *
counters_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_Size(args) || (kwargs != NULL && PyDict_Size(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "Counters() takes no arguments");
        return NULL;
    }
    return ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
}

static void
counters_dealloc(Counters *c)
{
    PyTypeObject *type = TYPE(c);
    for (int i = 0; i < c->top_count; i++)
        Py_DECREF(c->top[i].shown);
    PyMem_Free(c->top);
    traffic_free(c->traffic);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(c);
    Py_DECREF(type);
}

/* seen(key, shown): count a request of a key. */
static PyObject *
counters_seen(Counters *c, PyObject *args)
{
    unsigned long long key;
    PyObject *shown;
    if (!PyArg_ParseTuple(args, "KO", &key, &shown))
        return NULL;
    if (traffic_missed(c->traffic, key))
        traffic_hold(&c->traffic, key, Py_NewRef(shown));
    Py_RETURN_NONE;
}

/* halve(): halve the counts of the busiest keys. */
static PyObject *
counters_halve(Counters *c, PyObject *unused)
{
    (void)unused;
    traffic_halve(c->traffic);
    Py_RETURN_NONE;
}

/* One in so many requests of keys that are not held is a sample. */
static PyObject *
counters_sampled(Counters *c, void *unused)
{
    (void)unused;
    return PyLong_FromLong(c->traffic && c->traffic->full ? (long)sampled(c->traffic) : 0);
}

static PyObject *
counters_skipped(Counters *c, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(c->traffic ? c->traffic->skipped : 0);
}

static PyObject *
counters_busiest(Counters *c, void *unused)
{
    (void)unused;
    return traffic_shown(c->traffic);
}

static PyMethodDef counters_methods[] = {
    {"seen", (PyCFunction)counters_seen, METH_VARARGS, NULL},
    {"halve", (PyCFunction)counters_halve, METH_NOARGS, NULL},
    {"refuse", (PyCFunction)counters_refuse, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef counters_members[] = {
    {"allowed", T_LONGLONG, offsetof(Counters, allowed), 0, NULL},
    {"refused", T_LONGLONG, offsetof(Counters, refused), 0, NULL},
    {"never", T_LONGLONG, offsetof(Counters, never), 0, NULL},
    {"shadow_refused", T_LONGLONG, offsetof(Counters, shadow_refused), 0, NULL},
    {"waited", T_LONGLONG, offsetof(Counters, waited), 0, NULL},
    {"absent", T_LONGLONG, offsetof(Counters, absent), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef counters_getset[] = {
    {"lowest", (getter)counters_get_lowest, (setter)counters_set_lowest, NULL, NULL},
    {"refused_keys", (getter)counters_refused_keys, NULL, NULL, NULL},
    {"busiest", (getter)counters_busiest, NULL, NULL, NULL},
    {"sampled", (getter)counters_sampled, NULL, NULL, NULL},
    {"skipped", (getter)counters_skipped, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot counters_slots[] = {
    {Py_tp_new, counters_new},
    {Py_tp_dealloc, counters_dealloc},
    {Py_tp_methods, counters_methods},
    {Py_tp_members, counters_members},
    {Py_tp_getset, counters_getset},
    {Py_tp_doc, "What one identity has seen; outlives changes of its parameters."},
    {0, NULL},
};
static PyType_Spec counters_spec = {
    "ratectl.engine.native._fast.Counters", sizeof(Counters), 0, Py_TPFLAGS_DEFAULT, counters_slots,
};
static PyTypeObject *counters_type;

#endif

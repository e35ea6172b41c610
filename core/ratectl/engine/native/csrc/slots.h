/* Slots of concurrency limits: _Batch and Slot of concurrency.py, as a doubly linked list. */
#ifndef RATECTL_SLOTS_H
#define RATECTL_SLOTS_H

#include "windows.h"

#define FOREVER INT64_MAX

typedef struct Slot {
    PyObject_HEAD
    struct Batch *batch;    /* not owned; NULL once released */
    struct Slot *before, *after;
    i64 cost, until;
} Slot;

typedef struct Batch {
    PyObject_HEAD
    i64 held, soonest, latest; /* latest: end of the slot that was added last */
    Slot *first, *last;     /* owned, in the order in which they end */
} Batch;

static PyTypeObject *slot_type, *batch_type;
static PyObject *forever; /* concurrency.py's 1 << 100 */

static void
slot_free(Slot *slot)
{
    Batch *batch = slot->batch;
    if (batch == NULL)
        return;
    *(slot->before ? &slot->before->after : &batch->first) = slot->after;
    *(slot->after ? &slot->after->before : &batch->last) = slot->before;
    slot->batch = NULL;
    batch->held -= slot->cost;
    Py_DECREF((PyObject *)slot);
}

static void
batch_expire(Batch *batch, i64 now)
{
    while (batch->first && batch->first->until <= now)
        slot_free(batch->first);
    batch->soonest = batch->first ? batch->first->until : FOREVER;
}

static Slot *
slot_new(void)
{
    Slot *slot = PyObject_New(Slot, slot_type);
    if (slot != NULL) {
        slot->batch = NULL;
        slot->before = slot->after = NULL;
        slot->cost = slot->until = 0;
    }
    return slot;
}

static Batch *
batch_new(void)
{
    Batch *batch = PyObject_New(Batch, batch_type);
    if (batch != NULL) {
        batch->held = batch->latest = 0;
        batch->soonest = FOREVER;
        batch->first = batch->last = NULL;
    }
    return batch;
}

/* Put a new slot into a batch, which owns a reference to it from now on. */
static void
batch_take(Batch *batch, Slot *slot, i64 cost, i64 until)
{
    slot->until = batch->first && batch->latest > until ? batch->latest : until;
    batch->latest = slot->until;
    slot->cost = cost;
    slot->batch = batch;
    if (batch->first == NULL)
        batch->soonest = slot->until;
    slot->before = batch->last;
    *(batch->last ? &batch->last->after : &batch->first) = slot;
    batch->last = slot;
    batch->held += cost;
    Py_INCREF((PyObject *)slot);
}

static inline i64
held_used(Held *b, i64 now)
{
    Batch *own = b->own;
    if (own == NULL)
        return 0;
    if (unlikely(now >= own->soonest))
        batch_expire(own, now);
    return own->held;
}

/* For Python ------------------------------------------------------------------------------------ */

static PyObject *
slot_release(Slot *slot, PyObject *unused)
{
    (void)unused;
    slot_free(slot);
    Py_RETURN_NONE;
}

static void
free_plain(PyObject *self)
{
    PyTypeObject *type = TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static void
batch_dealloc(Batch *batch)
{
    while (batch->first)
        slot_free(batch->first);
    free_plain((PyObject *)batch);
}

/* An instant from Python, clamped to 64 bits. Sets *failed to -1 for an error. */
static i64
clamped(PyObject *number, int *failed)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (value == -1 && PyErr_Occurred())
        *failed = -1;
    return overflow > 0 ? INT64_MAX : overflow < 0 ? INT64_MIN : value;
}

static PyObject *
batch_py_take(Batch *batch, PyObject *args)
{
    long long cost, until;
    if (!PyArg_ParseTuple(args, "LL", &cost, &until))
        return NULL;
    Slot *slot = slot_new();
    if (slot != NULL)
        batch_take(batch, slot, cost, until);
    return (PyObject *)slot;
}

static PyObject *
batch_py_expire(Batch *batch, PyObject *now)
{
    int failed = 0;
    i64 at = clamped(now, &failed);
    if (failed)
        return NULL;
    batch_expire(batch, at);
    Py_RETURN_NONE;
}

static PyObject *
batch_soonest(Batch *batch, void *unused)
{
    (void)unused;
    return batch->soonest == FOREVER ? Py_NewRef(forever) : PyLong_FromLongLong(batch->soonest);
}

static PyMethodDef slot_methods[] = {
    {"release", (PyCFunction)slot_release, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef slot_members[] = {
    {"cost", T_LONGLONG, offsetof(Slot, cost), READONLY, NULL},
    {"until", T_LONGLONG, offsetof(Slot, until), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot slot_slots[] = {
    {Py_tp_dealloc, free_plain},
    {Py_tp_methods, slot_methods},
    {Py_tp_members, slot_members},
    {Py_tp_doc, "Slots taken by one request; see concurrency.py."},
    {0, NULL},
};
static PyType_Spec slot_spec = {
    "ratectl.engine.native._fast.Slot", sizeof(Slot), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slot_slots,
};

static PyMethodDef batch_methods[] = {
    {"take", (PyCFunction)batch_py_take, METH_VARARGS, NULL},
    {"expire", (PyCFunction)batch_py_expire, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef batch_members[] = {
    {"held", T_LONGLONG, offsetof(Batch, held), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef batch_getset[] = {
    {"soonest", (getter)batch_soonest, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot batch_slots[] = {
    {Py_tp_dealloc, batch_dealloc},
    {Py_tp_methods, batch_methods},
    {Py_tp_members, batch_members},
    {Py_tp_getset, batch_getset},
    {Py_tp_doc, "Slots in the order in which they end; see concurrency.py."},
    {0, NULL},
};
static PyType_Spec batch_spec = {
    "ratectl.engine.native._fast.Batch", sizeof(Batch), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, batch_slots,
};

#endif

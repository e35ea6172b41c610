/* Slots of concurrency limits: SlotState, _Batch and Slot of concurrency.py. A batch is a doubly
   linked list. A bucket has a batch of its own and, after it began as a copy of another or its
   parameters changed, older ones, each of which counts until an instant at most.

   A batch that another bucket counts too is closed: no bucket takes slots in it any more.

   Memory: 56 bytes for each held slot, 64 for the batch of a bucket that has held one, and 16 for
   each older batch in a bucket. An older batch is dropped once it holds nothing, so there are never
   more of them than held slots. */
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
    char closed;            /* it takes no more slots */
} Batch;

/* Older batches of a bucket; counted in it until `end` at most. */
typedef struct Older {
    u32 count;
    struct {
        Batch *batch;       /* owned */
        i64 end;
    } each[];
} Older;

static PyTypeObject *slot_type, *batch_type;
static PyObject *forever; /* concurrency.py's 1 << 100 */

/* Batches --------------------------------------------------------------------------------------- */

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

static inline i64
batch_used(Batch *batch, i64 now)
{
    if (unlikely(now >= batch->soonest))
        batch_expire(batch, now);
    return batch->held;
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
        batch->closed = 0;
    }
    return batch;
}

/* Put a new slot into a batch, which owns a reference to it from now on. It ends no earlier than
   the others, even if the clock steps back. */
static inline void
batch_take(Batch *batch, Slot *slot, i64 cost, i64 until)
{
    slot->until = batch->first && batch->latest > until ? batch->latest : until;
    batch->latest = slot->until;
    slot->cost = cost;
    slot->batch = batch;
    if (batch->first == NULL)
        batch->soonest = until;
    slot->before = batch->last;
    *(batch->last ? &batch->last->after : &batch->first) = slot;
    batch->last = slot;
    batch->held += cost;
    Py_INCREF((PyObject *)slot);
}

/* Older batches --------------------------------------------------------------------------------- */

static void
older_free(Older *older)
{
    for (u32 i = 0; older != NULL && i < older->count; i++)
        Py_DECREF((PyObject *)older->each[i].batch);
    PyMem_Free(older);
}

/* Room for so many batches, or NULL: out of memory. */
static Older *
older_new(u32 room)
{
    Older *older = PyMem_Malloc(sizeof *older + room * sizeof older->each[0]);
    if (older != NULL)
        older->count = 0;
    return older;
}

static void
older_add(Older *older, Batch *batch, i64 end)
{
    batch->closed = 1;
    older->each[older->count].batch = (Batch *)Py_NewRef((PyObject *)batch);
    older->each[older->count++].end = end;
}

/* All batches of a bucket that hold slots, for a copy of it that counts them until `until` at most.
   -1: out of memory. */
static int
older_of(const Held *b, i64 until, Older **copy)
{
    u32 count = b->older ? b->older->count : 0;
    *copy = NULL;
    if (!count && (b->own == NULL || !b->own->held))
        return 0;
    if ((*copy = older_new(count + 1)) == NULL)
        return -1;
    for (u32 i = 0; i < count; i++) {
        i64 end = b->older->each[i].end;
        if (b->older->each[i].batch->held)
            older_add(*copy, b->older->each[i].batch, end < until ? end : until);
    }
    if (b->own != NULL && b->own->held)
        older_add(*copy, b->own, until);
    return 0;
}

/* Cost held in the older batches of a bucket. Drop the batches that no longer count. */
static __attribute__((noinline)) i64
older_used(Held *b, i64 now)
{
    Older *older = b->older;
    i64 used = 0;
    u32 kept = 0;
    for (u32 i = 0; i < older->count; i++) {
        Batch *batch = older->each[i].batch;
        i64 held = batch_used(batch, now);
        if (held && now < older->each[i].end) {
            used += held;
            older->each[kept++] = older->each[i];
        } else {
            Py_DECREF((PyObject *)batch);
        }
    }
    older->count = kept;
    if (!kept) {
        PyMem_Free(older);
        b->older = NULL;
    }
    return used;
}

/* Buckets --------------------------------------------------------------------------------------- */

static inline i64
held_used(Held *b, i64 now)
{
    i64 used = b->own ? batch_used(b->own, now) : 0;
    if (unlikely(b->older != NULL))
        used += older_used(b, now);
    return used;
}

/* Replace all batches of a bucket by older ones. */
static void
held_become(Held *b, Older *older)
{
    older_free(b->older);
    Py_CLEAR(b->own);
    b->older = older;
}

/* Count no slot that a bucket holds beyond `until`. -1: out of memory, and it holds what it did. */
static int
held_cut(Held *b, i64 until)
{
    Older *older;
    b->newest = NO_SLOT;
    for (u32 i = 0; b->older != NULL && i < b->older->count; i++)
        if (b->older->each[i].end > until)
            b->older->each[i].end = until;
    if (b->own == NULL || !b->own->held)
        return 0;
    if (older_of(b, until, &older) < 0)
        return -1;
    held_become(b, older);
    return 0;
}

/* Make `b` a copy of a shared bucket, ready to take a slot: both count the slots held so far, and
   no later ones of the other. -1: out of memory; `b` is empty. */
static int
held_split(const Held *shared, Held *b)
{
    b->older = NULL;
    b->newest = NO_SLOT;
    if ((b->own = batch_new()) == NULL)
        return -1;
    if (older_of(shared, FOREVER, &b->older) == 0)
        return 0;
    Py_CLEAR(b->own);
    return -1;
}

/* Give a bucket an open batch for a slot that ends at `until`. In one that keys `share`, the slot is
   not to end later because of other keys' slots. -1: out of memory. */
static int
held_prepare(Held *b, i64 until, int share)
{
    Older *older;
    if (likely(b->own != NULL && !b->own->closed &&
               (!share || !b->own->held || b->own->latest <= until)))
        return 0;
    Batch *own = batch_new();
    if (own == NULL)
        return -1;
    if (b->own != NULL) {
        if (older_of(b, FOREVER, &older) < 0) {
            Py_DECREF((PyObject *)own);
            PyErr_NoMemory();
            return -1;
        }
        held_become(b, older);
    }
    b->own = own;
    return 0;
}

/* Take `cost` slots in a prepared bucket. */
static inline void
held_take(Held *b, Slot *slot, i64 cost, i64 until)
{
    batch_take(b->own, slot, cost, until);
    b->newest = slot->until;
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
batch_py_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)type, (void)args, (void)kwargs;
    return (PyObject *)batch_new();
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
    {"closed", T_BOOL, offsetof(Batch, closed), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef batch_getset[] = {
    {"soonest", (getter)batch_soonest, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot batch_slots[] = {
    {Py_tp_new, batch_py_new},
    {Py_tp_dealloc, batch_dealloc},
    {Py_tp_methods, batch_methods},
    {Py_tp_members, batch_members},
    {Py_tp_getset, batch_getset},
    {Py_tp_doc, "Slots in the order in which they end; see concurrency.py."},
    {0, NULL},
};
static PyType_Spec batch_spec = {
    "ratectl.engine.native._fast.Batch", sizeof(Batch), 0, Py_TPFLAGS_DEFAULT, batch_slots,
};

#endif

/* Groups for Python: native/bucket_set.py keeps them up to date, and reads and writes single
   buckets for the requests that Python decides. */
#ifndef RATECTL_GROUP_PY_H
#define RATECTL_GROUP_PY_H

#include "rule_py.h"

/* Packing --------------------------------------------------------------------------------------- */

/* Fill a bucket, and free what it owned before. 0 if the fields do not fit: the bucket is
   unchanged. */
static int
pack(const Rule *r, Packed *into, u32 epoch, u32 serial, PyObject *fields, Budget *budget)
{
    Packed b;
    const KindTable *kind = kind_of(r);
    if (kind->pack == NULL || PyTuple_Size(fields) != kind->field_count)
        return 0;
    memcpy(&b, into, sizeof(Bucket));
    b.head.epoch = epoch;
    b.head.serial = serial;
    int fits = kind->pack(r, &b, fields, budget);
    if (PyErr_Occurred())
        PyErr_Clear();
    if (!fits)
        return 0;
    if (into->head.key)
        bucket_end(r->kind, budget, &into->head);
    memcpy(into, &b, r->size);
    return 1;
}

/* Groups ---------------------------------------------------------------------------------------- */

static PyObject *
group_key(Group *g, PyObject *attributes)
{
    int failed = 0;
    u64 key = attributes_key(g, attributes, &failed);
    return failed ? NULL : PyLong_FromUnsignedLongLong(key);
}

/* mark(key): remember a key in a set of keys, if there is memory. */
static PyObject *
group_mark(Group *g, PyObject *key)
{
    u64 k = PyLong_AsUnsignedLongLong(key);
    if (PyErr_Occurred())
        return NULL;
    if (table_find(&g->table, k) == NULL) {
        Bucket *b = table_add(&g->table, k, 0);
        if (b != NULL) {
            memset(b, 0, g->rule->size);
            b->key = k;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
group_marked(Group *g, PyObject *key)
{
    u64 k = PyLong_AsUnsignedLongLong(key);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(table_find(&g->table, k) != NULL);
}

/* Numbers of boxed states: the key for tracked buckets, negative numbers for shared ones. */
static PyObject *
boxed_number(const Bucket *b, int shared)
{
    return shared ? PyLong_FromLongLong(-(i64)b->key) : PyLong_FromUnsignedLongLong(b->key);
}

static PyObject *
unpacked(Group *g, const Rule *r, const Bucket *b, int shared)
{
    if (b == NULL)
        Py_RETURN_NONE;
    if (b->epoch & BOXED) {
        PyObject *number = boxed_number(b, shared);
        PyObject *boxed = number ? PyDict_GetItemWithError(g->boxed, number) : NULL;
        Py_XINCREF(boxed);
        Py_XDECREF(number);
        return boxed;
    }
    const KindTable *kind = kind_of(r);
    Packed copy;
    char room[MOST_ROOM];
    memcpy(&copy, b, r->size);
    if (kind->detach != NULL)
        kind->detach(&copy, room);
    PyObject *fields = kind->fields(&copy);
    if (fields == NULL)
        return NULL;
    return Py_BuildValue("(iIIN)", r->kind, copy.head.epoch, copy.head.serial, fields);
}

static int
unbox(Group *g, Bucket *b, int shared)
{
    if (!(b->epoch & BOXED))
        return 0;
    PyObject *number = boxed_number(b, shared);
    b->epoch = 0;
    int done = number ? PyDict_DelItem(g->boxed, number) : -1;
    Py_XDECREF(number);
    return done;
}

/* The serial number of the next bucket. */
static PyObject *
group_serial(Group *g, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(next_serial(g->common));
}

static PyObject *
group_get(Group *g, PyObject *key)
{
    u64 k = PyLong_AsUnsignedLongLong(key);
    if (PyErr_Occurred())
        return NULL;
    Bucket *b = group_find(g, k);
    if (b != NULL || !g->former_count)
        return unpacked(g, g->rule, b, 0);
    Table *table;
    b = former_find(g, k, &table);
    return unpacked(g, b ? (const Rule *)table->rule : g->rule, b, 0);
}

/* Remove a bucket that is still packed by an earlier rule. */
static void
former_remove(Group *g, u64 key)
{
    Table *table;
    Bucket *b = former_find(g, key, &table);
    if (b == NULL)
        return;
    unbox(g, b, 0);
    table_remove(table, b);
    if (table->count)
        return;
    table_drop(table, UINT32_MAX);
    Py_CLEAR(table->rule);
    memmove(table, table + 1, (size_t)(&g->former[--g->former_count] - table) * sizeof *table);
}

/* Replace a bucket by (epoch, serial, fields) or by a list, which is boxed. 0: the fields do not
   fit; -1: an error. */
static int
store(Group *g, Bucket *b, int shared, PyObject *value)
{
    if (PyTuple_Check(value)) {
        unsigned int epoch, serial;
        PyObject *fields;
        if (!PyArg_ParseTuple(value, "IIO!", &epoch, &serial, &PyTuple_Type, &fields))
            return -1;
        u32 before = b->epoch;
        if (!pack(g->rule, (Packed *)b, epoch, serial, fields, &g->common->budget))
            return 0;
        if (before & BOXED) {
            b->epoch = before;
            int failed = unbox(g, b, shared);
            b->epoch = epoch;
            return failed ? -1 : 1;
        }
        return 1;
    }
    PyObject *number = boxed_number(b, shared);
    int failed = number ? PyDict_SetItem(g->boxed, number, value) : -1;
    Py_XDECREF(number);
    if (failed)
        return -1;
    bucket_end(g->rule->kind, &g->common->budget, b);
    b->epoch = BOXED;
    b->serial = 0;
    return 1;
}

/* set(key, bucket): write a tracked bucket (see `store`). */
static PyObject *
group_set(Group *g, PyObject *args)
{
    unsigned long long key;
    PyObject *value;
    if (!PyArg_ParseTuple(args, "KO", &key, &value))
        return NULL;
    Bucket *b = group_find(g, key);
    if (b == NULL) {
        former_remove(g, key);
        b = table_add(&g->table, key, 1);
        if (b == NULL)
            return PyErr_NoMemory();
        memset(b, 0, g->rule->size);
        b->key = key;
    }
    int done = store(g, b, 0, value);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

/* add(key, now, held) -> True if there was room for a new bucket, which must be set next. `held`:
   (group, key) of buckets that are about to be charged, and must not be evicted. */
static PyObject *
group_add(Group *g, PyObject *args)
{
    unsigned long long key;
    PyObject *now, *held;
    int failed = 0;
    if (!PyArg_ParseTuple(args, "KOO!", &key, &now, &PyList_Type, &held))
        return NULL;
    i64 at = clamped(now, &failed);
    if (failed)
        return NULL;
    at = at > MOST_TIME ? MOST_TIME : at < -MOST_TIME ? -MOST_TIME : at;
    Bucket *kept[64];
    int count = 0;
    for (Py_ssize_t i = 0; i < PyList_Size(held) && count < 64; i++) {
        Group *of;
        unsigned long long other;
        if (!PyArg_ParseTuple(PyList_GetItem(held, i), "O!K", group_type, &of, &other))
            return NULL;
        if ((kept[count] = group_find(of, other)) != NULL)
            count++;
    }
    Bucket *b = track(g, key, at, kept, count);
    if (b == NULL) {
        g->common->overflowed++;
        Py_RETURN_FALSE;
    }
    memset(b, 0, g->rule->size);
    b->key = key;
    Py_RETURN_TRUE;
}

static PyObject *
group_remove(Group *g, PyObject *key)
{
    u64 k = PyLong_AsUnsignedLongLong(key);
    if (PyErr_Occurred())
        return NULL;
    Bucket *b = group_find(g, k);
    if (b == NULL) {
        former_remove(g, k);
    } else {
        if (unbox(g, b, 0) < 0)
            return NULL;
        table_remove(&g->table, b);
        g->common->evicted++;
    }
    Py_RETURN_NONE;
}

static PyObject *
group_get_shared(Group *g, PyObject *slot)
{
    u64 at = PyLong_AsUnsignedLongLong(slot);
    if (PyErr_Occurred())
        return NULL;
    return unpacked(g, g->rule, shared_bucket(g, at), 1);
}

static PyObject *
group_set_shared(Group *g, PyObject *args)
{
    unsigned long long slot;
    PyObject *value;
    if (!PyArg_ParseTuple(args, "KO", &slot, &value))
        return NULL;
    Bucket *b = shared_bucket(g, slot);
    if (b == NULL && (b = share(g, slot)) == NULL)
        return PyErr_NoMemory();
    int done = store(g, b, 1, value);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

static PyObject *
group_shared_slots(Group *g, PyObject *unused)
{
    (void)unused;
    PyObject *slots = PyList_New(0);
    for (u64 slot = 0; slots != NULL && g->shared != NULL && slot < SHARED; slot++) {
        if (shared_bucket(g, slot) == NULL)
            continue;
        PyObject *number = PyLong_FromUnsignedLongLong(slot);
        if (number == NULL || PyList_Append(slots, number) < 0)
            Py_CLEAR(slots);
        Py_XDECREF(number);
    }
    return slots;
}

static void
free_shared(Group *g)
{
    for (u64 slot = 0; g->shared != NULL && slot < SHARED; slot++) {
        Bucket *b = shared_bucket(g, slot);
        if (b == NULL)
            continue;
        bucket_end(g->rule->kind, &g->common->budget, b);
        if (unbox(g, b, 1) < 0)
            PyErr_Clear();
    }
    PyMem_Free(g->shared);
    g->shared = NULL;
}

static PyObject *
group_clear_shared(Group *g, PyObject *unused)
{
    (void)unused;
    free_shared(g);
    Py_RETURN_NONE;
}

/* Return (at, keys): the keys of buckets from place `at` on, after a look at so many places. The
   returned place is where to go on; -1 at the end. `late`: only buckets that have not followed all
   changes. */
static PyObject *
keys_from(Group *g, PyObject *args, int late)
{
    long long at;
    int most;
    if (!PyArg_ParseTuple(args, "Li", &at, &most))
        return NULL;
    PyObject *keys = PyList_New(0);
    int table = (int)(at >> 32);
    u32 place = (u32)at;
    while (keys != NULL && most-- > 0) {
        if (table > g->former_count) {
            at = -1;
            break;
        }
        Table *t = table < g->former_count ? &g->former[table] : &g->table;
        u32 chunk = place / CHUNK;
        if (chunk >= t->chunk_count) {
            table++;
            place = 0;
        } else if (place % CHUNK >= t->chunks[chunk].fresh) {
            place = (chunk + 1) * CHUNK;
        } else {
            Bucket *b = bucket_of(t, place++);
            at = (long long)table << 32 | place;
            if (b->key == 0 || (late && t == &g->table && !(b->epoch & BOXED) &&
                                (b->epoch == g->epoch || catch_up(g, b) == 0)))
                continue;
            PyObject *key = PyLong_FromUnsignedLongLong(b->key);
            if (key == NULL || PyList_Append(keys, key) < 0)
                Py_CLEAR(keys);
            Py_XDECREF(key);
        }
        at = (long long)table << 32 | place;
    }
    return keys == NULL ? NULL : Py_BuildValue("(LN)", at, keys);
}

/* behind(at, most) -> (at, keys): see `keys_from`, of late buckets. */
static PyObject *
group_behind(Group *g, PyObject *args)
{
    return keys_from(g, args, 1);
}

/* keys(at, most) -> (at, keys): see `keys_from`, of all buckets. */
static PyObject *
group_keys(Group *g, PyObject *args)
{
    return keys_from(g, args, 0);
}

#endif

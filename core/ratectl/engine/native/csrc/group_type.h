/* The type `Group`: its parameters, its lifetime, and its table of methods. */
#ifndef RATECTL_GROUP_TYPE_H
#define RATECTL_GROUP_TYPE_H

#include "group_py.h"

/* Convert the least remaining level to tokens, before the rule changes. */
static void
flush_lowest(Group *g)
{
    if (!g->has_lowest)
        return;
    i64 left = whole_left(g->rule, g->lowest);
    Counters *c = g->counters;
    if (!c->has_lowest || left < c->lowest)
        c->lowest = left;
    c->has_lowest = 1;
    g->has_lowest = 0;
}

static PyObject *
group_flush(Group *g, PyObject *unused)
{
    (void)unused;
    flush_lowest(g);
    Py_RETURN_NONE;
}

static int
group_set_rule(Group *g, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL || TYPE(value) != rule_type) {
        PyErr_SetString(PyExc_TypeError, "a rule is a Rule");
        return -1;
    }
    Rule *new = (Rule *)value, *old = g->rule;
    if (old == NULL) {
        table_init(&g->table, &g->common->budget, new);
    } else if (old->kind != new->kind) {
        flush_lowest(g);
        if (g->table.count) {
            Table *former = PyMem_Realloc(g->former, ((size_t)g->former_count + 1) * sizeof *former);
            if (former == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            g->former = former;
            former[g->former_count] = g->table;
            former[g->former_count++].rule = Py_NewRef((PyObject *)old);
        } else {
            table_drop(&g->table, UINT32_MAX);
        }
        table_init(&g->table, &g->common->budget, new);
        g->hand = 0;
    } else {
        flush_lowest(g);
    }
    g->rule = (Rule *)Py_NewRef(value);
    Py_XDECREF((PyObject *)old);
    return 0;
}

static PyObject *
group_get_rule(Group *g, void *unused)
{
    (void)unused;
    return Py_XNewRef((PyObject *)g->rule);
}

/* changed(seq, now, before, after, native, left): record an event. */
static PyObject *
group_changed(Group *g, PyObject *args)
{
    PyObject *now;
    Rule *before, *after;
    unsigned int seq;
    int native, left, failed = 0;
    if (!PyArg_ParseTuple(args, "IOO!O!pp", &seq, &now, rule_type, &before, rule_type, &after,
                          &native, &left))
        return NULL;
    i64 at = clamped(now, &failed);
    if (failed)
        return NULL;
    size_t count = (size_t)g->change_count + 1;
    Change *changes = PyMem_Realloc(g->changes, count * sizeof *changes);
    if (changes == NULL)
        return PyErr_NoMemory();
    native = native && at < MOST_TIME && at > -MOST_TIME;
    changes[g->change_count++] = (Change){
        seq, at, (Rule *)Py_NewRef((PyObject *)before), (Rule *)Py_NewRef((PyObject *)after),
        native, left};
    g->changes = changes;
    Py_RETURN_NONE;
}

static void
forget_changes(Group *g, int count)
{
    for (int i = 0; i < count; i++) {
        Py_DECREF((PyObject *)g->changes[i].before);
        Py_DECREF((PyObject *)g->changes[i].after);
    }
    g->change_count -= count;
    if (g->change_count)
        memmove(g->changes, g->changes + count, (size_t)g->change_count * sizeof *g->changes);
}

/* forget(before): drop the events up to this one, which every bucket has followed. */
static PyObject *
group_forget(Group *g, PyObject *before)
{
    unsigned long last = PyLong_AsUnsignedLong(before);
    if (PyErr_Occurred())
        return NULL;
    int count = 0;
    while (count < g->change_count && g->changes[count].seq <= last)
        count++;
    forget_changes(g, count);
    Py_RETURN_NONE;
}

/* begin(fields): untracked keys begin with these; None: with a full bucket. */
static PyObject *
group_begin(Group *g, PyObject *fields)
{
    const Rule *r = g->rule;
    g->start = FULL;
    if (fields == Py_None)
        Py_RETURN_NONE;
    g->start = MADE;
    memset(&g->stored, 0, sizeof g->stored);
    if (PyTuple_Check(fields) && r->kind != WIDE && kind_of(r)->end == NULL &&
        pack(r, &g->stored, 0, 0, fields, &g->common->budget))
        g->start = STORED;
    Py_RETURN_NONE;
}

/* free_saved(): no event needs saved buckets any more; drop those without a change. */
static PyObject *
group_free_saved(Group *g, PyObject *unused)
{
    (void)unused;
    int kept = 0;
    for (int i = 0; i < g->change_count; i++) {
        Change *change = &g->changes[i];
        if (change->left && change->before == change->after) {
            Py_DECREF((PyObject *)change->before);
            Py_DECREF((PyObject *)change->after);
        } else {
            change->left = 0;
            g->changes[kept++] = *change;
        }
    }
    g->change_count = kept;
    Py_RETURN_NONE;
}

/* know(start, end): store the present window of a quota's calendar. */
static PyObject *
group_know(Group *g, PyObject *args)
{
    long long start, end;
    if (!PyArg_ParseTuple(args, "LL", &start, &end))
        return NULL;
    if (start > -MOST_TIME && end < MOST_TIME) {
        g->rule->starts = start;
        g->rule->ends = end;
    }
    Py_RETURN_NONE;
}

/* drop(chunks) -> chunks left: free buckets of a retired group. */
static PyObject *
group_drop(Group *g, PyObject *chunks)
{
    long most = PyLong_AsLong(chunks);
    if (PyErr_Occurred())
        return NULL;
    if (g->former_count) {
        Table *t = &g->former[g->former_count - 1];
        if (table_drop(t, (u32)most))
            return PyLong_FromLong(1);
        Py_CLEAR(t->rule);
        g->former_count--;
        return PyLong_FromLong(1);
    }
    return PyLong_FromUnsignedLong(table_drop(&g->table, (u32)most));
}

static i64
group_count(const Group *g)
{
    i64 count = g->table.count;
    for (int i = 0; i < g->former_count; i++)
        count += g->former[i].count;
    return count;
}

static PyObject *
group_retire(Group *g, PyObject *unused)
{
    (void)unused;
    flush_lowest(g);
    if (!g->retired)
        g->common->budget.buckets -= group_count(g);
    g->retired = g->table.retired = 1;
    for (int i = 0; i < g->former_count; i++)
        g->former[i].retired = 1;
    Py_RETURN_NONE;
}

static PyObject *
group_get_count(Group *g, void *unused)
{
    (void)unused;
    return PyLong_FromLongLong(group_count(g));
}

static PyObject *
group_get_former(Group *g, void *unused)
{
    (void)unused;
    return PyLong_FromLong(g->former_count);
}

/* The keys of boxed buckets. */
static PyObject *
group_get_boxed(Group *g, void *unused)
{
    (void)unused;
    return PyDict_Keys(g->boxed);
}

static void
group_dealloc(Group *g)
{
    PyTypeObject *type = TYPE(g);
    if (g->common != NULL) {
        Common *common = g->common;
        g->next->previous = g->previous;
        g->previous->next = g->next;
        if (common->hand == g)
            common->hand = g->next == g ? NULL : g->next;
        if (g->rule != NULL) {
            free_shared(g);
            for (int i = 0; i < g->former_count; i++) {
                table_drop(&g->former[i], UINT32_MAX);
                Py_CLEAR(g->former[i].rule);
            }
            table_drop(&g->table, UINT32_MAX);
        }
        common_release(common);
    }
    forget_changes(g, g->change_count);
    PyMem_Free(g->changes);
    PyMem_Free(g->former);
    Py_XDECREF((PyObject *)g->rule);
    Py_XDECREF((PyObject *)g->counters);
    Py_XDECREF(g->scope);
    Py_XDECREF(g->name);
    Py_XDECREF(g->per);
    Py_XDECREF(g->unit);
    Py_XDECREF(g->boxed);
    Py_XDECREF(g->owner);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(g);
    Py_DECREF(type);
}

static PyObject *
interned(PyObject *names)
{
    Py_ssize_t count = PyTuple_Size(names);
    PyObject *copy = PyTuple_New(count);
    for (Py_ssize_t i = 0; copy != NULL && i < count; i++) {
        PyObject *name = PyUnicode_FromObject(PyTuple_GetItem(names, i));
        if (name == NULL) {
            Py_CLEAR(copy);
            break;
        }
        PyUnicode_InternInPlace(&name);
        PyTuple_SetItem(copy, i, name);
    }
    return copy;
}

/* A new group of an engine, without a rule. `unit`: what it counts; None: requests. */
static PyObject *
group_new(Common *common, PyObject *scope, PyObject *name, PyObject *per, PyObject *counters,
          PyObject *unit)
{
    Group *g = (Group *)((allocfunc)PyType_GetSlot(group_type, Py_tp_alloc))(group_type, 0);
    if (g == NULL)
        return NULL;
    g->scope = Py_NewRef(scope);
    g->name = Py_NewRef(name);
    g->counters = (Counters *)Py_NewRef(counters);
    g->per = interned(per);
    g->boxed = PyDict_New();
    g->unit = unit == Py_None ? NULL : PyUnicode_FromObject(unit);
    if (g->per == NULL || g->boxed == NULL || (g->unit == NULL && unit != Py_None)) {
        Py_DECREF((PyObject *)g);
        return NULL;
    }
    g->per_count = PyTuple_Size(g->per);
    g->only = g->per_count == 1 ? PyTuple_GetItem(g->per, 0) : NULL;
    g->common = common;
    common->references++;
    if (common->hand == NULL) {
        common->hand = g->next = g->previous = g;
    } else {
        g->next = common->hand;
        g->previous = common->hand->previous;
        g->previous->next = g->next->previous = g;
    }
    return (PyObject *)g;
}

static PyMethodDef group_methods[] = {
    {"key", (PyCFunction)group_key, METH_O, NULL},
    {"mark", (PyCFunction)group_mark, METH_O, NULL},
    {"marked", (PyCFunction)group_marked, METH_O, NULL},
    {"serial", (PyCFunction)group_serial, METH_NOARGS, NULL},
    {"get", (PyCFunction)group_get, METH_O, NULL},
    {"set", (PyCFunction)group_set, METH_VARARGS, NULL},
    {"add", (PyCFunction)group_add, METH_VARARGS, NULL},
    {"remove", (PyCFunction)group_remove, METH_O, NULL},
    {"get_shared", (PyCFunction)group_get_shared, METH_O, NULL},
    {"set_shared", (PyCFunction)group_set_shared, METH_VARARGS, NULL},
    {"shared_slots", (PyCFunction)group_shared_slots, METH_NOARGS, NULL},
    {"clear_shared", (PyCFunction)group_clear_shared, METH_NOARGS, NULL},
    {"changed", (PyCFunction)group_changed, METH_VARARGS, NULL},
    {"forget", (PyCFunction)group_forget, METH_O, NULL},
    {"begin", (PyCFunction)group_begin, METH_O, NULL},
    {"free_saved", (PyCFunction)group_free_saved, METH_NOARGS, NULL},
    {"know", (PyCFunction)group_know, METH_VARARGS, NULL},
    {"behind", (PyCFunction)group_behind, METH_VARARGS, NULL},
    {"keys", (PyCFunction)group_keys, METH_VARARGS, NULL},
    {"drop", (PyCFunction)group_drop, METH_O, NULL},
    {"flush", (PyCFunction)group_flush, METH_NOARGS, NULL},
    {"retire", (PyCFunction)group_retire, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef group_members[] = {
    {"epoch", T_UINT, offsetof(Group, epoch), 0, NULL},
    {"shadow", T_INT, offsetof(Group, shadow), 0, NULL},
    {"skips", T_INT, offsetof(Group, skips), 0, NULL},
    {"owner", T_OBJECT, offsetof(Group, owner), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef group_getset[] = {
    {"rule", (getter)group_get_rule, (setter)group_set_rule, NULL, NULL},
    {"count", (getter)group_get_count, NULL, NULL, NULL},
    {"former", (getter)group_get_former, NULL, NULL, NULL},
    {"boxed", (getter)group_get_boxed, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot group_slots[] = {
    {Py_tp_dealloc, group_dealloc},
    {Py_tp_methods, group_methods},
    {Py_tp_members, group_members},
    {Py_tp_getset, group_getset},
    {Py_tp_doc, "The packed buckets of one identity; see native/bucket_set.py."},
    {0, NULL},
};
static PyType_Spec group_spec = {
    "ratectl.engine.native._fast.Group", sizeof(Group), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, group_slots,
};

#endif

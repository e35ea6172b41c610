/* The groups that decide a request: an Active for each scope, a Chooser that maps attributes to a
   state, and a Selection of groups for each state. */
#ifndef RATECTL_SELECTION_H
#define RATECTL_SELECTION_H

#include "group_type.h"

struct Core;

typedef struct {
    PyObject_HEAD
    struct Core *core;
    PyObject *scope;
    i64 generation;
    u64 swaps;          /* value of the core's counter when this was made */
    int holds;          /* some of its groups hold slots */
    int shadow;         /* none of its groups may refuse */
    int count, mark_count;
    Group **groups;
    PyObject **told;    /* what answers to Envoy say of each group, where that is known: where it
                           allows, and where it refuses; or NULL */
    Group **marks;      /* sets of keys: requests without a key there may carry something over */
} Selection;

/* The conditions that hold for a request, as a number (state): a walk along the attributes that any
   condition mentions. Values with equal conditions are one class; Python classifies each value
   once. */
typedef struct {
    PyObject_HEAD
    PyObject *names;    /* a tuple, interned */
    PyObject *memos;    /* a tuple of dicts: value -> class */
    u32 *next;          /* hash table: (state, class) -> state; see `edge` */
    u64 *edges;
    u32 room, used, states;
} Chooser;

typedef struct {
    PyObject_HEAD
    Chooser *chooser;       /* NULL: nothing depends on the request */
    Selection *only;
    Selection **by_state;
    u32 state_count;
} Active;

static PyTypeObject *selection_type, *chooser_type, *active_type;

/* Source of attribute values: a mapping, or the arguments of a gate. */
typedef struct {
    PyObject *mapping;
    int plain;                  /* a dict, whose look-up runs no Python code */
    Py_ssize_t count;
    PyObject *const *names;     /* interned */
    PyObject *const *values;
} Source;

static inline Source
source_of(PyObject *mapping)
{
    return (Source){.mapping = mapping, .plain = PyDict_CheckExact(mapping)};
}

/* A new reference to a value. NULL: absent or, with an exception set, an error. */
static inline PyObject *
source_get(const Source *source, PyObject *name)
{
    if (source->plain)
        return Py_XNewRef(PyDict_GetItemWithError(source->mapping, name));
    if (source->mapping != NULL) {
        PyObject *value = PyObject_CallMethod(source->mapping, "get", "O", name);
        if (value == Py_None)
            Py_CLEAR(value);
        return value;
    }
    for (Py_ssize_t i = 0; i < source->count; i++)
        if (source->names[i] == name)
            return source->values[i] == Py_None ? NULL : Py_NewRef(source->values[i]);
    return NULL;
}

/* Make the keys of a request in each group, and the set of groups (bits) for which it lacks an
   attribute. Comparing names may run Python code. SLOW, or -1 for an error. */
static int
keys_of(const Selection *s, const Source *source, u64 *keys, u64 *absent)
{
    PyObject *known[4] = {NULL};
    u64 hashes[4], missing = 0;     /* missing: known names without a value, as bits */
    int used = 0, failed = 0;
    *absent = 0;
    for (int i = 0; i < s->count; i++) {
        Group *g = s->groups[i];
        u64 key = 0;
        for (Py_ssize_t j = 0; j < g->per_count; j++) {
            PyObject *name = likely(g->only != NULL) ? g->only : PyTuple_GetItem(g->per, j);
            u64 hash;
            int k = 0;
            while (k < used && known[k] != name)
                k++;
            if (k < used) {
                hash = hashes[k];
                if (unlikely(missing >> k & 1))
                    *absent |= (u64)1 << i;
            } else {
                PyObject *value = source_get(source, name);
                if (unlikely(value == NULL && PyErr_Occurred()))
                    return -1;
                hash = value_hash(&g->common->secret, value, &failed);
                if (unlikely(value == NULL || value == Py_None)) {
                    *absent |= (u64)1 << i;
                    missing |= (u64)(used < 4) << (used & 3);
                }
                Py_XDECREF(value);
                if (unlikely(failed))
                    return failed;
                if (used < 4) {
                    known[used] = name;
                    hashes[used++] = hash;
                }
            }
            key = key_step(key, hash);
        }
        keys[i] = key_end(&g->common->secret, key);
    }
    return 0;
}

/* 1 if a request has nothing to carry over any more. SLOW, or -1 for an error. */
static __attribute__((noinline)) int
all_carried(const Selection *s, const Source *source)
{
    for (int i = 0; i < s->mark_count; i++) {
        Group *g = s->marks[i];
        u64 key = 0;
        int failed = 0;
        for (Py_ssize_t j = 0; j < g->per_count; j++) {
            PyObject *value = source_get(source, PyTuple_GetItem(g->per, j));
            if (value == NULL && PyErr_Occurred())
                return -1;
            u64 hash = value_hash(&g->common->secret, value, &failed);
            Py_XDECREF(value);
            if (failed)
                return failed;
            key = key_step(key, hash);
        }
        if (table_find(&g->table, key_end(&g->common->secret, key)) == NULL)
            return SLOW;
    }
    return 1;
}

/* Choosers -------------------------------------------------------------------------------------- */

static inline u32
edge_at(const Chooser *c, u64 edge)
{
    u32 mask = c->room - 1, at = (u32)(mixed(edge) >> 32) & mask;
    while (c->edges[at] != edge && c->edges[at] != UINT64_MAX)
        at = (at + 1) & mask;
    return at;
}

/* The state of a request. SLOW: not known yet; -1: an error. */
static i64
chooser_walk(const Chooser *c, const Source *source)
{
    u32 state = 0;
    Py_ssize_t count = PyTuple_Size(c->names);
    if (c->edges == NULL)
        return SLOW;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *value = source_get(source, PyTuple_GetItem(c->names, i));
        if (value == NULL && PyErr_Occurred())
            return -1;
        if (unlikely(value != NULL && !PyUnicode_CheckExact(value))) {
            Py_DECREF(value);
            return SLOW;
        }
        PyObject *class =
            PyDict_GetItemWithError(PyTuple_GetItem(c->memos, i), value ? value : Py_None);
        Py_XDECREF(value);
        if (class == NULL)
            return PyErr_Occurred() ? -1 : SLOW;
        u32 at = edge_at(c, (u64)state << 32 | (u32)PyLong_AsLong(class));
        if (c->edges[at] == UINT64_MAX)
            return SLOW;
        state = c->next[at];
    }
    return state;
}

static PyObject *
chooser_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *names;
    if ((kwargs != NULL && PyDict_Size(kwargs)) ||
        !PyArg_ParseTuple(args, "O!", &PyTuple_Type, &names))
        return NULL;
    Chooser *c = (Chooser *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (c == NULL)
        return NULL;
    c->names = interned(names);
    c->memos = c->names ? PyTuple_New(PyTuple_Size(names)) : NULL;
    for (Py_ssize_t i = 0; c->memos != NULL && i < PyTuple_Size(names); i++) {
        PyObject *memo = PyDict_New();
        if (memo == NULL)
            Py_CLEAR(c->memos);
        else
            PyTuple_SetItem(c->memos, i, memo);
    }
    if (c->memos == NULL) {
        Py_DECREF((PyObject *)c);
        return NULL;
    }
    return (PyObject *)c;
}

static int
chooser_grow(Chooser *c)
{
    u32 room = c->room ? 2 * c->room : 16;
    Chooser larger = *c;
    larger.room = room;
    larger.edges = PyMem_Malloc(room * sizeof *larger.edges);
    larger.next = PyMem_Malloc(room * sizeof *larger.next);
    if (larger.edges == NULL || larger.next == NULL) {
        PyMem_Free(larger.edges);
        PyMem_Free(larger.next);
        PyErr_NoMemory();
        return -1;
    }
    memset(larger.edges, 0xFF, room * sizeof *larger.edges);
    for (u32 i = 0; i < c->room; i++)
        if (c->edges[i] != UINT64_MAX) {
            u32 at = edge_at(&larger, c->edges[i]);
            larger.edges[at] = c->edges[i];
            larger.next[at] = c->next[i];
        }
    PyMem_Free(c->edges);
    PyMem_Free(c->next);
    c->edges = larger.edges;
    c->next = larger.next;
    c->room = room;
    return 0;
}

/* learn(classes) -> state: the class of each attribute's value, in order. */
static PyObject *
chooser_learn(Chooser *c, PyObject *classes)
{
    u32 state = 0;
    if (!PyTuple_Check(classes) || PyTuple_Size(classes) != PyTuple_Size(c->names)) {
        PyErr_SetString(PyExc_TypeError, "a class for each attribute");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_Size(classes); i++) {
        long class = PyLong_AsLong(PyTuple_GetItem(classes, i));
        if (PyErr_Occurred() || (c->used * 2 >= c->room && chooser_grow(c) < 0))
            return NULL;
        u64 edge = (u64)state << 32 | (u32)class;
        u32 at = edge_at(c, edge);
        if (c->edges[at] == UINT64_MAX) {
            c->edges[at] = edge;
            c->next[at] = ++c->states;
            c->used++;
        }
        state = c->next[at];
    }
    return PyLong_FromUnsignedLong(state);
}

static void
chooser_dealloc(Chooser *c)
{
    PyTypeObject *type = TYPE(c);
    Py_XDECREF(c->names);
    Py_XDECREF(c->memos);
    PyMem_Free(c->edges);
    PyMem_Free(c->next);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(c);
    Py_DECREF(type);
}

static PyMethodDef chooser_methods[] = {
    {"learn", (PyCFunction)chooser_learn, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef chooser_members[] = {
    {"memos", T_OBJECT_EX, offsetof(Chooser, memos), READONLY, NULL},
    {"states", T_UINT, offsetof(Chooser, states), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot chooser_slots[] = {
    {Py_tp_new, chooser_new},
    {Py_tp_dealloc, chooser_dealloc},
    {Py_tp_methods, chooser_methods},
    {Py_tp_members, chooser_members},
    {Py_tp_doc, "Chooser(names): the conditions that hold, as a number."},
    {0, NULL},
};
static PyType_Spec chooser_spec = {
    "ratectl.engine.native._fast.Chooser", sizeof(Chooser), 0, Py_TPFLAGS_DEFAULT, chooser_slots,
};

/* Actives --------------------------------------------------------------------------------------- */

static PyObject *
active_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *chooser;
    if ((kwargs != NULL && PyDict_Size(kwargs)) || !PyArg_ParseTuple(args, "O", &chooser))
        return NULL;
    if (chooser != Py_None && TYPE(chooser) != chooser_type) {
        PyErr_SetString(PyExc_TypeError, "a Chooser or None");
        return NULL;
    }
    Active *a = (Active *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (a != NULL && chooser != Py_None)
        a->chooser = (Chooser *)Py_NewRef(chooser);
    return (PyObject *)a;
}

/* choose(state, selection): set the selection of a state; None is for all requests. */
static PyObject *
active_choose(Active *a, PyObject *args)
{
    PyObject *state, *selection;
    if (!PyArg_ParseTuple(args, "OO!", &state, selection_type, &selection))
        return NULL;
    if (state == Py_None) {
        PyObject *before = (PyObject *)a->only;
        a->only = (Selection *)Py_NewRef(selection);
        Py_XDECREF(before);
        Py_RETURN_NONE;
    }
    u32 at = (u32)PyLong_AsUnsignedLong(state);
    if (PyErr_Occurred())
        return NULL;
    if (at >= a->state_count) {
        u32 count = at + 1 + at / 2;
        Selection **larger = PyMem_Realloc(a->by_state, count * sizeof *larger);
        if (larger == NULL)
            return PyErr_NoMemory();
        memset(larger + a->state_count, 0, (count - a->state_count) * sizeof *larger);
        a->by_state = larger;
        a->state_count = count;
    }
    PyObject *before = (PyObject *)a->by_state[at];
    a->by_state[at] = (Selection *)Py_NewRef(selection);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

static int
active_traverse(Active *a, visitproc visit, void *arg)
{
    Py_VISIT(TYPE(a));
    Py_VISIT(a->only);
    for (u32 i = 0; i < a->state_count; i++)
        Py_VISIT(a->by_state[i]);
    return 0;
}

static int
active_clear(Active *a)
{
    Py_CLEAR(a->only);
    u32 count = a->state_count;
    a->state_count = 0;
    for (u32 i = 0; i < count; i++)
        Py_XDECREF((PyObject *)a->by_state[i]);
    PyMem_Free(a->by_state);
    a->by_state = NULL;
    return 0;
}

static void
active_dealloc(Active *a)
{
    PyTypeObject *type = TYPE(a);
    PyObject_GC_UnTrack((PyObject *)a);
    active_clear(a);
    Py_XDECREF((PyObject *)a->chooser);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(a);
    Py_DECREF(type);
}

/* The selection of a request, borrowed. NULL: *answer is SLOW or, for an error, -1. */
static inline Selection *
active_select(const Active *a, const Source *source, i64 *answer)
{
    if (likely(a->chooser == NULL)) {
        *answer = SLOW;
        return a->only;
    }
    i64 state = *answer = chooser_walk(a->chooser, source);
    if (state < 0)
        return NULL;
    *answer = SLOW;
    return state < a->state_count ? a->by_state[state] : NULL;
}

static PyMethodDef active_methods[] = {
    {"choose", (PyCFunction)active_choose, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot active_slots[] = {
    {Py_tp_new, active_new},
    {Py_tp_dealloc, active_dealloc},
    {Py_tp_traverse, active_traverse},
    {Py_tp_clear, active_clear},
    {Py_tp_methods, active_methods},
    {Py_tp_doc, "Active(chooser or None): what decides the requests of one scope."},
    {0, NULL},
};
static PyType_Spec active_spec = {
    "ratectl.engine.native._fast.Active", sizeof(Active), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, active_slots,
};

/* Selections ------------------------------------------------------------------------------------ */

static PyObject *
selection_create(struct Core *core, PyObject *scope, i64 generation, u64 swaps, PyObject *groups,
                 int shadow, PyObject *marks)
{
    Py_ssize_t count = PyTuple_Size(groups), mark_count = PyTuple_Size(marks);
    Selection *s = (Selection *)((allocfunc)PyType_GetSlot(selection_type, Py_tp_alloc))(
        selection_type, 0);
    if (s == NULL)
        return NULL;
    s->core = (struct Core *)Py_NewRef((PyObject *)core);
    s->scope = Py_NewRef(scope);
    s->generation = generation;
    s->swaps = swaps;
    s->shadow = shadow;
    s->groups = PyMem_Calloc((size_t)(count + mark_count) + 1, sizeof *s->groups);
    s->marks = s->groups == NULL ? NULL : s->groups + count;
    for (Py_ssize_t i = 0; s->groups != NULL && i < count + mark_count; i++) {
        Group *g = (Group *)(i < count ? PyTuple_GetItem(groups, i)
                                       : PyTuple_GetItem(marks, i - count));
        if (TYPE(g) != group_type) {
            PyErr_SetString(PyExc_TypeError, "a tuple of groups");
            Py_DECREF((PyObject *)s);
            return NULL;
        }
        s->groups[i] = (Group *)Py_NewRef((PyObject *)g);
        *(i < count ? &s->count : &s->mark_count) += 1;
        s->holds |= i < count && kind_of(g->rule)->holds;
    }
    if (s->groups == NULL) {
        Py_DECREF((PyObject *)s);
        return PyErr_NoMemory();
    }
    return (PyObject *)s;
}

static int
selection_traverse(Selection *s, visitproc visit, void *arg)
{
    Py_VISIT(TYPE(s));
    Py_VISIT(s->core);
    return 0;
}

static int
selection_clear(Selection *s)
{
    Py_CLEAR(s->core);
    return 0;
}

static void
selection_dealloc(Selection *s)
{
    PyTypeObject *type = TYPE(s);
    PyObject_GC_UnTrack((PyObject *)s);
    selection_clear(s);
    for (int i = 0; i < s->count; i++)
        Py_DECREF((PyObject *)s->groups[i]);
    for (int i = 0; i < s->mark_count; i++)
        Py_DECREF((PyObject *)s->marks[i]);
    for (int i = 0; s->told != NULL && i < 2 * s->count; i++)
        Py_XDECREF(s->told[i]);
    PyMem_Free(s->told);
    PyMem_Free(s->groups);
    Py_XDECREF(s->scope);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(s);
    Py_DECREF(type);
}

static PyType_Slot selection_slots[] = {
    {Py_tp_dealloc, selection_dealloc},
    {Py_tp_traverse, selection_traverse},
    {Py_tp_clear, selection_clear},
    {Py_tp_doc, "The groups that decide a request, in the order in which they are charged."},
    {0, NULL},
};
static PyType_Spec selection_spec = {
    "ratectl.engine.native._fast.Selection", sizeof(Selection), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, selection_slots,
};

#endif

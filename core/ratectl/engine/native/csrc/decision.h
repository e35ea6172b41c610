/* Decisions: the class of decision.py, with the record that release and settle need. */
#ifndef RATECTL_DECISION_H
#define RATECTL_DECISION_H

#include "selection.h"

typedef enum { OK, LIMITED, NEVER_PASSES, SHADOW, NO_POLICY } Reason;

/* The charge in one group. */
typedef struct {
    u64 key;
    Slot *slot;
    u32 serial;     /* of the bucket; 0: not tracked */
    int refused;    /* in shadow, or not consulted: nothing was charged */
} Charge;

typedef struct {
    PyObject_VAR_HEAD
    Selection *selection;           /* NULL: no policy */
    PyObject *scope, *attributes;   /* of the request; attributes are NULL without a policy */
    PyObject *costs;                /* of a mapping of units: a dict of the core's own; or NULL */
    PyObject *notes;                /* Python's own record, in place of `charges` */
    i64 generation, now, cost;
    i64 retry_after;
    Rule *rule;         /* of the bucket that decided, or NULL */
    union {
        struct { i64 remaining, reset_after; } counts;
        struct { u64 low; i64 high, ahead; } tokens;    /* divided only when read */
    } left;
    int decisive;                   /* index of the group that decided, or -1 */
    Reason reason;
    Charge charges[];               /* of a refused request: its keys only, for explanations */
} Decision;

static PyTypeObject *decision_type;
static PyObject *text_requests; /* "requests" */
static PyObject *reasons[5], *seconds_divisor;
static PyObject *describe_decision, *settle_nothing, *explain_decision; /* Python's */

#define MOST_SPARE 1024
#define SPARE_CHARGES 6

/* Freed decisions, to be used again: most live for microseconds. */
static Decision *spare_decisions[MOST_SPARE];
static int spare_count;

static Decision *
decision_alloc(int charges)
{
    Decision *d;
    if (spare_count && charges <= SPARE_CHARGES) {
        d = spare_decisions[--spare_count];
        PyObject_InitVar((PyVarObject *)d, decision_type, charges);
    } else {
        d = PyObject_GC_NewVar(Decision, decision_type,
                               charges < SPARE_CHARGES ? SPARE_CHARGES : charges);
        if (d == NULL)
            return NULL;
        Py_SET_SIZE((PyVarObject *)d, charges);
    }
    d->selection = NULL;
    d->scope = d->attributes = d->costs = d->notes = NULL;
    d->rule = NULL;
    return d;
}

static int
decision_traverse(Decision *d, visitproc visit, void *arg)
{
    Py_VISIT(TYPE(d));
    Py_VISIT(d->selection);
    Py_VISIT(d->attributes);
    Py_VISIT(d->notes);
    return 0;
}

static int
decision_clear(Decision *d)
{
    Py_CLEAR(d->attributes);
    Py_CLEAR(d->notes);
    return 0;
}

static void
decision_dealloc(Decision *d)
{
    PyTypeObject *type = TYPE(d);
    Py_ssize_t size = Py_SIZE((PyObject *)d);
    PyObject_GC_UnTrack((PyObject *)d);
    if (d->selection != NULL) {
        if (unlikely(d->selection->holds))
            for (Py_ssize_t i = 0; i < size; i++)
                Py_XDECREF((PyObject *)d->charges[i].slot);
        Py_DECREF((PyObject *)d->selection);
    }
    Py_XDECREF((PyObject *)d->rule);
    Py_XDECREF(d->scope);
    Py_XDECREF(d->attributes);
    Py_XDECREF(d->costs);
    Py_XDECREF(d->notes);
    if (size <= SPARE_CHARGES && spare_count < MOST_SPARE)
        spare_decisions[spare_count++] = d;
    else
        PyObject_GC_Del(d);
    Py_DECREF(type);
}

/* Attributes ------------------------------------------------------------------------------------ */

static Group *
decisive_group(const Decision *d)
{
    return d->decisive < 0 ? NULL : d->selection->groups[d->decisive];
}

static int
is_allowed(const Decision *d)
{
    return d->reason != LIMITED && d->reason != NEVER_PASSES;
}

/* True if a decision may have charged something, which a release or a settlement corrects. */
static inline int
is_charged(const Decision *d)
{
    return d->attributes != NULL && is_allowed(d);
}

static PyObject *
number_or_none(i64 number)
{
    return number < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(number);
}

static PyObject *
seconds_or_none(i64 number)
{
    if (number < 0)
        return Py_NewRef(Py_None);
    PyObject *ns = PyLong_FromLongLong(number);
    PyObject *seconds = ns ? PyNumber_TrueDivide(ns, seconds_divisor) : NULL;
    Py_XDECREF(ns);
    return seconds;
}

static i128
level_left(const Decision *d)
{
    return (i128)((u128)(u64)d->left.tokens.high << 64 | d->left.tokens.low);
}

static i64
reset_of_decision(const Decision *d)
{
    if (d->rule == NULL)
        return 0;
    return d->rule->kind == TOKENS ? tokens_reset(d->rule, level_left(d), d->left.tokens.ahead)
                                   : d->left.counts.reset_after;
}

#define GETTER(name) static PyObject *get_##name(Decision *d, void *unused)
GETTER(allowed) { (void)unused; return PyBool_FromLong(is_allowed(d)); }
GETTER(reason) { (void)unused; return Py_NewRef(reasons[d->reason]); }
GETTER(generation) { (void)unused; return PyLong_FromLongLong(d->generation); }
GETTER(retry_after_ns) { (void)unused; return number_or_none(d->retry_after); }
GETTER(reset_after_ns) { (void)unused; return number_or_none(reset_of_decision(d)); }
GETTER(retry_after) { (void)unused; return seconds_or_none(d->retry_after); }
GETTER(reset_after) { (void)unused; return seconds_or_none(reset_of_decision(d)); }
GETTER(limit)
{
    (void)unused;
    Group *g = decisive_group(d);
    return Py_NewRef(g ? g->name : Py_None);
}
GETTER(scope)
{
    (void)unused;
    Group *g = decisive_group(d);
    return Py_NewRef(g ? g->scope : d->selection ? d->selection->scope : Py_None);
}
GETTER(unit)
{
    (void)unused;
    Group *g = decisive_group(d);
    return Py_NewRef(g == NULL ? Py_None : g->unit ? g->unit : text_requests);
}
GETTER(capacity)
{
    (void)unused;
    return d->rule ? PyLong_FromLongLong(d->rule->most) : Py_NewRef(Py_None);
}
GETTER(remaining)
{
    (void)unused;
    if (d->rule == NULL)
        return Py_NewRef(Py_None);
    return PyLong_FromLongLong(d->rule->kind == TOKENS ? tokens_left(d->rule, level_left(d))
                                                       : d->left.counts.remaining);
}

/* The cost if it was a mapping of units; otherwise None. */
GETTER(costs)
{
    (void)unused;
    return Py_NewRef(d->costs ? d->costs : Py_None);
}

/* Python's own record of the charges, if it has made one; otherwise None. */
GETTER(notes)
{
    (void)unused;
    return Py_NewRef(d->notes ? d->notes : Py_None);
}

static int
set_notes(Decision *d, PyObject *notes, void *unused)
{
    (void)unused;
    PyObject *before = d->notes;
    d->notes = Py_XNewRef(notes);
    Py_XDECREF(before);
    return 0;
}

/* (scope, attributes, now, cost, [(group, key, serial, slot or None, refused)]), or None. The cost is
   that of `costs`, if it was a mapping. */
static PyObject *
decision_charges(Decision *d, PyObject *unused)
{
    (void)unused;
    if (!is_charged(d))
        Py_RETURN_NONE;
    PyObject *charges = PyList_New(Py_SIZE((PyObject *)d));
    for (Py_ssize_t i = 0; charges != NULL && i < Py_SIZE((PyObject *)d); i++) {
        const Charge *c = &d->charges[i];
        PyObject *charge =
            Py_BuildValue("(OKIOi)", d->selection->groups[i], c->key, c->serial,
                          c->slot ? (PyObject *)c->slot : Py_None, c->refused);
        if (charge == NULL)
            Py_CLEAR(charges);
        else
            PyList_SetItem(charges, i, charge);
    }
    if (charges == NULL)
        return NULL;
    return Py_BuildValue("(OOLLN)", d->scope, d->attributes, d->now, d->cost, charges);
}

/* The engine of a decision, borrowed. NULL: it is gone, or no policy covered the request. */
static PyObject *engine_of(const Decision *d);

/* (engine or None, scope, attributes or None, cost, [(group, key)]): the request of a decision. */
static PyObject *
decision_request(Decision *d, PyObject *unused)
{
    (void)unused;
    Py_ssize_t count = d->selection ? Py_SIZE((PyObject *)d) : 0;
    PyObject *looks = PyList_New(count), *engine = engine_of(d);
    for (Py_ssize_t i = 0; looks != NULL && i < count; i++) {
        PyObject *look = Py_BuildValue("(OK)", d->selection->groups[i], d->charges[i].key);
        if (look == NULL)
            Py_CLEAR(looks);
        else
            PyList_SetItem(looks, i, look);
    }
    PyObject *cost = looks == NULL ? NULL
                     : d->costs    ? Py_NewRef(d->costs)
                                   : PyLong_FromLongLong(d->cost);
    if (cost == NULL) {
        Py_XDECREF(looks);
        return NULL;
    }
    return Py_BuildValue("(OOONN)", engine ? engine : Py_None, d->scope ? d->scope : Py_None,
                         d->attributes ? d->attributes : Py_None, cost, looks);
}

static PyObject *
decision_explain(PyObject *d, PyObject *unused)
{
    (void)unused;
    return PyObject_CallFunctionObjArgs(explain_decision, d, NULL);
}

static int
decision_bool(Decision *d)
{
    return is_allowed(d);
}

static PyObject *
decision_repr(PyObject *d)
{
    return PyObject_CallFunctionObjArgs(describe_decision, d, NULL);
}

static PyObject *
decision_enter(PyObject *d, PyObject *unused)
{
    (void)unused;
    return Py_NewRef((PyObject *)d);
}

static PyObject *decision_release(Decision *d, PyObject *unused);
static PyObject *decision_settle(Decision *d, PyObject *actual);

static PyObject *
decision_exit(Decision *d, PyObject *args)
{
    (void)args;
    return decision_release(d, NULL);
}

static PyMethodDef decision_methods[] = {
    {"release", (PyCFunction)decision_release, METH_NOARGS,
     "Give back the slots that concurrency limits hold for the request, now that it is over."},
    {"settle", (PyCFunction)decision_settle, METH_O,
     "Correct the cost, now that it is known: charge the difference, or refund it."},
    {"explain", (PyCFunction)decision_explain, METH_NOARGS,
     "Say why: the limits of the request, with what each has left."},
    {"_charges", (PyCFunction)decision_charges, METH_NOARGS, NULL},
    {"_request", (PyCFunction)decision_request, METH_NOARGS, NULL},
    {"__enter__", (PyCFunction)decision_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)decision_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef decision_getset[] = {
#define READ(name) {#name, (getter)get_##name, NULL, NULL, NULL}
    READ(allowed), READ(reason), READ(generation), READ(limit), READ(scope), READ(unit), READ(capacity),
    READ(remaining), READ(retry_after_ns), READ(reset_after_ns), READ(retry_after),
    READ(reset_after),
    {"_costs", (getter)get_costs, NULL, NULL, NULL},
    {"_notes", (getter)get_notes, (setter)set_notes, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot decision_slots[] = {
    {Py_tp_dealloc, decision_dealloc},
    {Py_tp_traverse, decision_traverse},
    {Py_tp_clear, decision_clear},
    {Py_tp_methods, decision_methods},
    {Py_tp_getset, decision_getset},
    {Py_tp_repr, decision_repr},
    {Py_nb_bool, decision_bool},
    {Py_tp_doc, "May this request pass, and what decided; see ratectl.Decision."},
    {0, NULL},
};
static PyType_Spec decision_spec = {
    "ratectl.engine.native._fast.Decision", offsetof(Decision, charges), sizeof(Charge),
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, decision_slots,
};

#endif

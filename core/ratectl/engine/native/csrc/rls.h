/* Requests of Envoy's Rate Limit Service, from bytes to bytes: the usual ones. For all others it
   answers nothing, and sidecar/service.py does. The messages are those of sidecar/rls.proto. */
#ifndef RATECTL_RLS_H
#define RATECTL_RLS_H

#include "check.h"
#include "rls_read.h"
#include "rls_write.h"

enum { NODE_SCOPE, NODE_UNIT, NODE_BELOW, NODE_IS_END };            /* a node of a domain's plan */
enum { PLAN_ROOT, PLAN_NAMES, PLAN_PASSES, PLAN_REPLACES };         /* a domain's plan */

/* A text that Python has made for these bytes before, borrowed; NULL: none, or an error. */
static inline PyObject *
rls_known(PyObject *known, Bytes bytes)
{
    PyObject *name = PyBytes_FromStringAndSize((const char *)bytes.at, bytes.end - bytes.at);
    PyObject *text = name == NULL ? NULL : PyDict_GetItemWithError(known, name);
    Py_XDECREF(name);
    return text;
}

/* The item of a tuple, borrowed. NULL: an error. */
static inline PyObject *
rls_item(PyObject *tuple, int index)
{
    return tuple == NULL ? NULL : PyTuple_GetItem(tuple, index);
}

/* The node of a domain's plan that a descriptor leads to, borrowed. NULL: Python has to look, or an
   error. `all`: descriptors that lead to no end pass, which Python has to say. */
static PyObject *
rls_node(const RlsRequest *r, const RlsDescriptor *d, PyObject *node, int all)
{
    int i = 0;
    PyObject *below = rls_item(node, NODE_BELOW);
    for (; i < d->entries && below != NULL && below != Py_None; i++) {
        PyObject *place = rls_known(below, r->keys[d->first + i]);
        if (place == NULL)
            break;
        PyObject *values = rls_item(place, 0);
        PyObject *next = values == NULL ? NULL : rls_known(values, r->values[d->first + i]);
        if (next == NULL && !PyErr_Occurred())
            next = rls_item(place, 1);
        if (next == NULL || next == Py_False)
            return NULL; /* False: a value may begin as the file says */
        if (next == Py_None)
            break;
        node = next;
        below = rls_item(node, NODE_BELOW);
    }
    if (below != Py_None && PyErr_Occurred())
        return NULL;
    return all && (i < d->entries || rls_item(node, NODE_IS_END) != Py_True) ? NULL : node;
}

/* A cost of so many hits in a unit; None: requests. A new reference. */
static PyObject *
rls_cost(PyObject *unit, u64 hits)
{
    PyObject *count = PyLong_FromUnsignedLongLong(hits), *cost;
    if (unit == Py_None || hits == 0 || count == NULL)
        return count;
    if ((cost = PyDict_New()) != NULL && (PyDict_SetItem(cost, text_requests, one) < 0 ||
                                          PyDict_SetItem(cost, unit, count) < 0))
        Py_CLEAR(cost);
    Py_DECREF(count);
    return cost;
}

/* A new dict; NULL: Python has to make it, or an error. */
static PyObject *
rls_attributes(const RlsRequest *r, const RlsDescriptor *d, PyObject *names)
{
    PyObject *found = PyDict_New();
    for (int i = 0; found != NULL && i < d->entries; i++) {
        Bytes text = r->values[d->first + i];
        PyObject *name = rls_known(names, r->keys[d->first + i]);
        PyObject *value = name == NULL ? NULL
            : PyUnicode_DecodeUTF8((const char *)text.at, text.end - text.at, "surrogateescape");
        if (value == NULL || PyDict_SetItem(found, name, value) < 0 ||
            PyDict_Size(found) != i + 1) /* a key that repeats */
            Py_CLEAR(found);
        Py_XDECREF(value);
    }
    return found;
}

/* What an answer says of the decisive limit: its message, the header with the policies, its name in
   the other header, and metadata of a refusal. Borrowed. NULL: Python has to answer, or an error. */
static PyObject *
rls_told(Core *core, Decision *d, PyObject *scope, PyObject *attributes, PyObject *tell)
{
    Selection *s = d->selection;
    if (s == NULL || d->decisive < 0 || d->rule == NULL || s->swaps != core->swaps)
        return NULL;
    if (s->told == NULL && (s->told = PyMem_Calloc(2 * (size_t)s->count, sizeof *s->told)) == NULL)
        return NULL;
    int place = 2 * d->decisive + !is_allowed(d);
    if (s->told[place] == NULL) {
        PyObject *told = PyObject_CallFunctionObjArgs(tell, d, scope, attributes, NULL);
        PyObject *before = s->told[place]; /* Python may have decided another request */
        if (told != NULL && !PyTuple_Check(told))
            Py_CLEAR(told);
        s->told[place] = told;
        Py_XDECREF(before);
    }
    return s->told[place];
}

/* A question to the engine, and its decision. */
typedef struct { PyObject *scope, *attributes, *cost, *decision, *told; } RlsAsked;

/* The answer's bytes. NULL: Python has to write it, or an error. `own_hits`: the only descriptor
   names its hits, which may be charged though it is refused. */
static PyObject *
rls_answer(Core *core, RlsAsked *all, int count, int own_hits, PyObject *tell)
{
    RlsStatus statuses[MOST_RLS_DESCRIPTORS];
    int refused = 0;
    for (int i = 0; i < count; i++) {
        Decision *d = (Decision *)all[i].decision;
        if (TYPE(all[i].decision) != decision_type)
            return NULL;
        refused = d->reason == LIMITED && count == 1 && !own_hits;
        if (d->reason != OK && !refused)
            return NULL;
        all[i].told = Py_XNewRef(rls_told(core, d, all[i].scope, all[i].attributes, tell));
        if (all[i].told == NULL || rls_status(d, all[i].told, &statuses[i]) < 0)
            return NULL;
    }
    return rls_written(statuses, count, refused);
}

/* The decisions, with the arguments of `check`. NULL: an error. */
static PyObject *
rls_decided(const RlsAsked *all, int count)
{
    PyObject *found = PyList_New(count);
    for (int i = 0; found != NULL && i < count; i++) {
        const RlsAsked *a = &all[i];
        PyObject *each = PyTuple_Pack(4, a->decision, a->scope, a->attributes, a->cost);
        if (each == NULL || PyList_SetItem(found, i, each) < 0)
            Py_CLEAR(found);
    }
    return found;
}

/* Make the question of a descriptor. 0: Python has to, or an error. */
static int
rls_question(const RlsRequest *r, const RlsDescriptor *d, PyObject *plan, RlsAsked *a)
{
    int all = rls_item(plan, PLAN_PASSES) == Py_True;
    PyObject *node = rls_node(r, d, rls_item(plan, PLAN_ROOT), all);
    a->scope = node == NULL ? NULL : rls_item(node, NODE_SCOPE);
    a->attributes = a->scope == NULL ? NULL : rls_attributes(r, d, rls_item(plan, PLAN_NAMES));
    a->cost = a->attributes == NULL ? NULL : rls_cost(rls_item(node, NODE_UNIT), d->hits);
    return a->cost != NULL;
}

/* rls(plans, tell, data) -> the answer's bytes; None: Python has to answer; or, after it has
   decided all descriptors, a list with (decision, scope, attributes, cost) of each: Python has to
   write the answer. `plans` are those of the domains that are known (see sidecar/mapping.py);
   `tell`: see `rls_told`. */
static PyObject *
core_rls(Core *core, PyObject *const *args, Py_ssize_t nargs)
{
    char *data;
    Py_ssize_t size;
    RlsRequest r;
    if (nargs != 3 || !PyDict_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "rls() takes a dict, a function and bytes");
        return NULL;
    }
    if (PyBytes_AsStringAndSize(args[2], &data, &size) < 0)
        return NULL;
    Bytes in = {(unsigned char *)data, (unsigned char *)data + size};
    if (!rls_read(in, &r))
        Py_RETURN_NONE;
    PyObject *plan = Py_XNewRef(rls_known(args[0], r.domain)), *answer = NULL;
    if (plan == NULL)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    RlsAsked asked[MOST_RLS_DESCRIPTORS];
    memset(asked, 0, (size_t)r.count * sizeof *asked);
    int made = r.count == 1 || rls_item(plan, PLAN_REPLACES) == Py_False;
    for (int i = 0; made && i < r.count; i++)
        made = rls_question(&r, &r.descriptors[i], plan, &asked[i]);
    for (int i = 0; made && i < r.count; i++) {
        const RlsAsked *a = &asked[i];
        asked[i].decision = check(core, a->scope, a->attributes, a->cost, NULL);
        made = asked[i].decision != NULL;
    }
    int own_hits = r.descriptors[0].own_hits;
    if (made && (answer = rls_answer(core, asked, r.count, own_hits, args[1])) == NULL &&
        !PyErr_Occurred())
        answer = rls_decided(asked, r.count);
    else if (!made && !PyErr_Occurred())
        answer = Py_NewRef(Py_None);
    for (int i = 0; i < r.count; i++) {
        Py_XDECREF(asked[i].told);
        Py_XDECREF(asked[i].decision);
        Py_XDECREF(asked[i].cost);
        Py_XDECREF(asked[i].attributes);
    }
    Py_DECREF(plan);
    return answer;
}

#endif

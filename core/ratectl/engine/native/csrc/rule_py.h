/* Rules and wallets for Python (native/packing.py). */
#ifndef RATECTL_RULE_PY_H
#define RATECTL_RULE_PY_H

#include "group.h"

/* Rules ----------------------------------------------------------------------------------------- */

static PyObject *
rule_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    int kind, blocked, cells;
    long long most, per_ns, per_token, window_ns, hold_ns, even;
    PyObject *offset;
    if (kwargs != NULL && PyDict_Size(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "Rule() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "ipLLLLiLLO", &kind, &blocked, &most, &per_ns, &per_token,
                          &window_ns, &cells, &hold_ns, &even, &offset))
        return NULL;
    if (kind < WIDE || kind > KEYED) {
        PyErr_SetString(PyExc_ValueError, "no such kind of rule");
        return NULL;
    }
    if (cells < FEWEST_CELLS || cells > MOST_CELLS) {
        PyErr_SetString(PyExc_OverflowError, "a window of too few or too many cells");
        return NULL;
    }
    if (kind != WIDE && (most > (kind == WINDOW ? MOST_WINDOW : MOST_COUNT) ||
                         per_ns > MOST_TIME || per_token > MOST_TIME ||
                         window_ns > MOST_TIME / 64 || hold_ns > MOST_TIME / 64)) {
        PyErr_SetString(PyExc_OverflowError, "a limit too large for the compiled core");
        return NULL;
    }
    Rule *r = (Rule *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (r == NULL)
        return NULL;
    if (kind == POOL && (TYPE(offset) != wallet_type ||
                         (i128)most * per_ns > MOST_TIME)) {
        Py_DECREF((PyObject *)r);
        PyErr_SetString(PyExc_OverflowError, "a pool with another wallet, or too slow a rate");
        return NULL;
    }
    if (kind == KEYED && (TYPE(offset) != key_wallets_type ||
                          (i128)most * window_ns > MOST_TIME)) {
        Py_DECREF((PyObject *)r);
        PyErr_SetString(PyExc_OverflowError, "other wallets, or too slow a rate");
        return NULL;
    }
    if (kind == TOKENS && per_ns && (i128)most * per_token > (i128)per_ns * MOST_TIME) {
        Py_DECREF((PyObject *)r);
        PyErr_SetString(PyExc_OverflowError, "a bucket that fills too slowly");
        return NULL;
    }
    r->kind = (Kind)kind;
    r->blocked = blocked;
    r->most = most;
    r->per_ns = per_ns;
    r->per_token = per_token;
    r->capacity = (i128)most * per_token;
    r->half = r->capacity / 2;
    r->window_ns = window_ns;
    r->cells = (u32)cells;
    window_measure(r);
    r->hold_ns = hold_ns;
    r->even = even;
    r->starts = r->ends = INT64_MIN;
    r->size = kinds[kind].size;
    r->offset = Py_NewRef(offset);
    return (PyObject *)r;
}

static void
rule_dealloc(Rule *r)
{
    PyTypeObject *type = TYPE(r);
    Py_XDECREF(r->offset);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(r);
    Py_DECREF(type);
}

/* Wallets --------------------------------------------------------------------------------------- */

static PyObject *
wallet_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if ((kwargs != NULL && PyDict_Size(kwargs)) || PyTuple_Size(args)) {
        PyErr_SetString(PyExc_TypeError, "Wallet() takes no arguments");
        return NULL;
    }
    Wallet *w = (Wallet *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (w != NULL)
        w->deadline = -((i64)1 << 62);
    return (PyObject *)w;
}

static void
wallet_dealloc(Wallet *w)
{
    PyTypeObject *type = TYPE(w);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(w);
    Py_DECREF(type);
}

static PyMemberDef wallet_members[] = {
    {"deadline", T_LONGLONG, offsetof(Wallet, deadline), 0, NULL},
    {"granted", T_LONGLONG, offsetof(Wallet, granted), 0, NULL},
    {"reported", T_LONGLONG, offsetof(Wallet, reported), 0, NULL},
    {"free", T_LONGLONG, offsetof(Wallet, free), 0, NULL},
    {"missed", T_LONGLONG, offsetof(Wallet, missed), 0, NULL},
    {"largest", T_LONGLONG, offsetof(Wallet, largest), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot wallet_slots[] = {
    {Py_tp_new, wallet_new},
    {Py_tp_dealloc, wallet_dealloc},
    {Py_tp_members, wallet_members},
    {Py_tp_doc, "Wallet(): see pooled.py."},
    {0, NULL},
};
static PyType_Spec wallet_spec = {
    "ratectl.engine.native._fast.Wallet", sizeof(Wallet), 0, Py_TPFLAGS_DEFAULT, wallet_slots,
};

/* own_part(high, low, since): capacity of the part of a keyed bucket that is its own, in ticks: 128
   bits in two halves; and when each part was empty: INT64_MIN if it never was. */
static PyObject *
rule_own_part(Rule *r, PyObject *args)
{
    long long high, since;
    unsigned long long low;
    if (!PyArg_ParseTuple(args, "LKL", &high, &low, &since))
        return NULL;
    r->capacity = (i128)((u128)(u64)high << 64 | low);
    r->half = r->capacity / 2;
    r->starts = since;
    Py_RETURN_NONE;
}

static PyMethodDef rule_methods[] = {
    {"own_part", (PyCFunction)rule_own_part, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef rule_members[] = {
    {"kind", T_INT, offsetof(Rule, kind), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot rule_slots[] = {
    {Py_tp_new, rule_new},
    {Py_tp_dealloc, rule_dealloc},
    {Py_tp_methods, rule_methods},
    {Py_tp_members, rule_members},
    {Py_tp_doc, "Rule(kind, blocked, most, per_ns, per_token, window_ns, cells, hold_ns, even, offset)"},
    {0, NULL},
};
static PyType_Spec rule_spec = {
    "ratectl.engine.native._fast.Rule", sizeof(Rule), 0, Py_TPFLAGS_DEFAULT, rule_slots,
};

#endif

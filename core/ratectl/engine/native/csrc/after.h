/* What is counted and noted of a request after its decision: here, Python code may run. */
#ifndef RATECTL_AFTER_H
#define RATECTL_AFTER_H

#include "request.h"
#include "timing.h"

#define RECENT 16

/* A recent scope and its Active: comparing the text's address is faster than hashing the text. */
typedef struct {
    PyObject *scope, *active;
} Known;

typedef struct Core {
    PyObject_HEAD
    Common *common;
    PyObject *active;       /* dict: scope -> Active, or None if no policy covers it */
    PyObject *slowly;       /* (scope, attributes, cost, now) -> decision */
    PyObject *engine;       /* for release and settle */
    PyObject *plain;        /* value -> text of a refused key */
    PyObject *failed, *unready; /* an agent's: (scope, error) -> decision, () -> decision */
    PyObject *usage_error;
    i64 generation, no_policy;
    u64 swaps;
    i64 turn;               /* odd while Python changes the engine; see control.py */
    i64 last;               /* latest instant of any decision or change; INT64_MAX: see `far` */
    PyObject *far;          /* that instant, if it is beyond MOST_TIME; otherwise NULL */
    char mirrored;          /* Python has to see every decision */
    char watched;           /* Python has to see every release: somebody waits for a slot */
    int own_clock;          /* the core reads the clock itself */
    Known recent[RECENT];
    Timings timings;
} Core;

/* True if a limit refuses a request. */
static inline int
refuses(const Look *l)
{
    return l->wait && l->wait != UNASKED;
}

/* The readable form of a key: a value, None, or a tuple of these. `plain` makes the text of a value
   that is no text of common length. If `plain` is NULL, such a value has no form: NULL without an
   exception, and no Python code runs for it. */
static PyObject *
shown_key(PyObject *plain, const Group *g, const Source *source)
{
    PyObject *shown = g->per_count == 1 ? NULL : PyTuple_New(g->per_count);
    if (shown == NULL && g->per_count != 1)
        return NULL;
    for (Py_ssize_t i = 0; i < g->per_count; i++) {
        PyObject *value = source_get(source, PyTuple_GetItem(g->per, i));
        if (value == NULL && !PyErr_Occurred())
            value = Py_NewRef(Py_None);
        if (value != NULL && value != Py_None &&
            !(PyUnicode_CheckExact(value) && PyUnicode_GetLength(value) <= 256)) {
            PyObject *text = plain == NULL ? NULL : PyObject_CallFunctionObjArgs(plain, value, NULL);
            Py_DECREF(value);
            value = text;
        }
        if (value == NULL) {
            Py_XDECREF(shown);
            return NULL;
        }
        if (g->per_count == 1)
            return value;
        PyTuple_SetItem(shown, i, value);
    }
    return shown;
}

/* Count the refused keys. Python code may run: the decision has been made. -1: an exception that is
   no Exception, such as KeyboardInterrupt. */
static __attribute__((noinline)) int
count_refused(const Core *core, const Request *q, const Source *source)
{
    for (int i = 0; i < q->count; i++) {
        const Look *l = &q->looks[i];
        if (!refuses(l) || l->group->shadow || counted_before(l->group->counters, l->key))
            continue;
        PyObject *shown = shown_key(core->plain, l->group, source);
        if (likely(shown != NULL))
            count_newly(l->group->counters, l->key, shown);
        else if (PyErr_ExceptionMatches(PyExc_Exception))
            PyErr_Clear(); /* counts of keys are approximate */
        else
            return -1;
    }
    return 0;
}

/* Hold the missed keys: those that are texts, so that no Python code runs but the collector's. */
static __attribute__((noinline)) void
hold_keys(Request *q, const Source *source)
{
    for (int i = 0; i < q->count; i++) {
        const Look *l = &q->looks[i];
        if (!(q->missed >> i & 1))
            continue;
        Traffic **traffic = &l->group->counters->traffic;
        PyObject *shown = shown_key(NULL, l->group, source);
        if (likely(shown != NULL)) {
            traffic_hold(traffic, l->key, shown);
            continue;
        }
        PyErr_Clear();
        traffic_lost(traffic);
    }
}

/* The hash of a value of a key for other processes: the pure engine keeps long texts as digests. */
static u64
number_step(const Core *core, const KeyWallets *w, PyObject *value, u64 so_far, int *failed)
{
    if (value == NULL || !PyUnicode_CheckExact(value) || PyUnicode_GetLength(value) <= 256)
        return key_step(so_far, value_hash(&w->secret, value, failed));
    PyObject *plain = PyObject_CallFunctionObjArgs(core->plain, value, NULL);
    PyObject *text = plain == NULL ? NULL : PyObject_Str(plain);
    Py_XDECREF(plain);
    if (text == NULL) {
        *failed = -1;
        return 0;
    }
    u64 step = key_step(so_far, text_hash(&w->secret, text, failed));
    Py_DECREF(text);
    return step;
}

/* Number the key of a new wallet, unless its limit has other wallets by now. */
static void
name_wallet(const Core *core, Group *g, u64 key, const Source *source)
{
    if (g->rule->kind != KEYED)
        return;
    KeyWallets *w = (KeyWallets *)Py_NewRef(g->rule->offset);
    int failed = 0;
    u64 number = 0;
    for (Py_ssize_t j = 0; j < g->per_count && !failed; j++) {
        PyObject *value = source_get(source, PyTuple_GetItem(g->per, j));
        if (value == NULL && PyErr_Occurred())
            failed = -1;
        else
            number = number_step(core, w, value, number, &failed);
        Py_XDECREF(value);
    }
    KeyWallet *wallet = failed ? NULL : wallet_find(w, key);
    if (wallet != NULL)
        wallet->number = key_end(&w->secret, number);
    else
        PyErr_Clear();
    Py_DECREF((PyObject *)w);
}

/* Number the keys of new wallets. Python code may run: the decision has been made, and limits may
   change meanwhile. */
static __attribute__((noinline)) void
name_wallets(const Core *core, const Request *q, const Source *source)
{
    for (int i = 0; i < q->count; i++)
        if (q->unnamed >> i & 1)
            name_wallet(core, q->looks[i].group, q->looks[i].key, source);
}

/* Count a decision in the limits that count per an attribute which the request lacks. */
static __attribute__((noinline)) void
count_absent(const Request *q)
{
    for (int i = 0; i < q->count; i++)
        if ((q->absent >> i & 1) && q->looks[i].cost != UNASKED)
            q->looks[i].group->counters->absent++;
}

#endif

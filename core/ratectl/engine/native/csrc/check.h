/* check and check_many: from arguments to a decision; release and settle. */
#ifndef RATECTL_CHECK_H
#define RATECTL_CHECK_H

#include "decide.h"

static PyObject *empty_attributes, *one; /* {} and 1 */

/* The decision object of a decided request. Takes ownership of its selection and its slots. */
static PyObject *
decision_of(Request *q, PyObject *scope, PyObject *attributes)
{
    Decision *d = decision_alloc(q->count);
    if (d == NULL) {
        for (int i = 0; i < q->count; i++) /* the caller cannot release them */
            if (q->looks[i].slot != NULL)
                slot_free(q->looks[i].slot);
        drop_slots(q);
        Py_XDECREF((PyObject *)q->rule);
        Py_DECREF((PyObject *)q->selection);
        return NULL;
    }
    d->selection = q->selection;
    d->generation = q->selection->generation;
    d->reason = q->reason;
    d->decisive = q->decisive;
    d->retry_after = q->wait > 0 ? q->wait + q->lag : q->wait;
    if (likely(q->rule != NULL)) {
        d->rule = q->rule;
        if (likely(d->rule->kind == TOKENS)) {
            d->left.tokens.low = (u64)q->level;
            d->left.tokens.high = (i64)(q->level >> 64);
            d->left.tokens.ahead = q->ahead + q->lag;
        } else {
            d->left.counts.remaining = q->remaining;
            d->left.counts.reset_after = q->reset_after > 0 ? q->reset_after + q->lag : q->reset_after;
        }
    }
    if (unlikely(q->costs != NULL))
        d->costs = Py_NewRef(q->costs);
    d->scope = Py_NewRef(scope);
    d->attributes = Py_NewRef(attributes);
    d->now = q->now;
    d->cost = q->cost;
    for (int i = 0; i < q->count; i++) {
        const Look *l = &q->looks[i];
        /* No pointer to its bucket: a finalizer that ran meanwhile may have had it evicted. */
        d->charges[i] = (Charge){l->key, l->slot, l->serial, l->wait != 0};
    }
    PyObject_GC_Track((PyObject *)d);
    return (PyObject *)d;
}

static PyObject *
no_policy(Core *core, PyObject *scope, PyObject *costs)
{
    Decision *d = decision_alloc(0);
    if (d == NULL)
        return NULL;
    core->no_policy++;
    d->generation = core->generation;
    d->reason = NO_POLICY;
    d->decisive = -1;
    d->retry_after = 0;
    d->cost = 0;
    d->scope = Py_NewRef(scope);
    d->costs = Py_XNewRef(costs);
    PyObject_GC_Track((PyObject *)d);
    return (PyObject *)d;
}

/* Let Python decide. */
static PyObject *
slowly(Core *core, PyObject *scope, PyObject *attributes, PyObject *cost, PyObject *now)
{
    /* Attributes may request another decision: each takes the stack of several Python calls. */
    if (Py_EnterRecursiveCall(" while deciding"))
        return NULL;
    PyObject *function = Py_NewRef(core->slowly);
    PyObject *decision = PyObject_CallFunctionObjArgs(
        function, scope, attributes, cost ? cost : one, now ? now : Py_None, NULL);
    Py_DECREF(function);
    Py_LeaveRecursiveCall();
    return decision;
}

/* Let `failed` decide by on_error after a failure. A usage error of the caller is none. */
static PyObject *
failing(Core *core, PyObject *scope)
{
    if (core->failed == NULL || core->failed == Py_None ||
        PyErr_ExceptionMatches(core->usage_error) ||
        !PyErr_ExceptionMatches(PyExc_Exception))
        return NULL;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(error, traceback);
    PyObject *function = Py_NewRef(core->failed);
    PyObject *decision = PyObject_CallFunctionObjArgs(function, scope, error, NULL);
    Py_DECREF(function);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return decision;
}

static void
forget_recent(Core *core)
{
    for (int i = 0; i < RECENT; i++) {
        Known known = core->recent[i];
        core->recent[i] = (Known){NULL, NULL};
        Py_XDECREF(known.scope);
        Py_XDECREF(known.active);
    }
}

#define MOST_SCOPE 1024 /* characters of a scope; scopes.py's MAX_CHARS */

/* The Active of a scope, borrowed. NULL: not known, or an error. */
static inline PyObject *
active_of(Core *core, PyObject *scope)
{
    Known *known = &core->recent[((uintptr_t)scope >> 5) % RECENT];
    if (likely(known->scope == scope))
        return known->active;
    if (unlikely(PyUnicode_GetLength(scope) > MOST_SCOPE))
        return NULL; /* it is not even hashed: Python cuts it */
    PyObject *active = core->active ? PyDict_GetItemWithError(core->active, scope) : NULL;
    if (active != NULL) {
        Known before = *known;
        *known = (Known){Py_NewRef(scope), Py_NewRef(active)};
        Py_XDECREF(before.scope);
        Py_XDECREF(before.active);
    }
    return active;
}

/* Decide a request; `costs` as in Request. A new reference; Py_None: Python has to decide; NULL: an
   error. The instant is `*at`; if the clock is read, it is stored there. */
static __attribute__((noinline)) PyObject *
check_here(Core *core, PyObject *scope, PyObject *attributes, i64 cost, PyObject *costs, i64 *at,
           int clock, Asker asker, int waits)
{
    Request q;
    if (unlikely(!PyUnicode_CheckExact(scope)))
        return Py_NewRef(Py_None);
    if (unlikely(!PyDict_CheckExact(attributes) && asker == CALLER))
        return Py_NewRef(Py_None); /* Python reads it once, and remembers its texts */
    PyObject *active = active_of(core, scope);
    if (unlikely(active == NULL))
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    if (unlikely(active == Py_None)) {
        if (clock && asker != CALLER)
            *at = monotonic_ns(); /* for a mirror */
        return keeps_out(core, asker) ? Py_NewRef(Py_None) : no_policy(core, scope, costs);
    }
    Source source = source_of(attributes);
    i64 answer;
    Py_INCREF(active);
    q.selection = (Selection *)Py_XNewRef((PyObject *)active_select((Active *)active, &source, &answer));
    Py_DECREF(active);
    if (likely(q.selection != NULL)) {
        q.cost = cost;
        q.costs = costs;
        q.now = *at;
        q.waits = waits;
        answer = decide(core, &q, &source, 1, clock, asker);
        if (likely(answer >= 0)) {
            *at = q.now;
            return decision_of(&q, scope, attributes);
        }
        Py_DECREF((PyObject *)q.selection);
    }
    return answer == SLOW ? Py_NewRef(Py_None) : NULL;
}

/* A cost from Python. 0 if Python has to check it. */
static inline int
cost_of(PyObject *cost, i64 *value)
{
    *value = 1;
    if (cost == NULL)
        return 1;
    if (!PyLong_CheckExact(cost))
        return 0;
    int overflow;
    *value = PyLong_AsLongLongAndOverflow(cost, &overflow);
    return !overflow && *value >= 0 && *value <= MOST_COUNT;
}

/* A mapping of units from Python, as a new dict that names requests too. NULL: Python has to read it,
   or an error. */
static PyObject *
costs_of(PyObject *cost, i64 *requests)
{
    PyObject *costs = PyDict_CheckExact(cost) ? PyDict_Copy(cost) : NULL, *unit, *units;
    Py_ssize_t at = 0;
    i64 value;
    *requests = 1;
    while (costs != NULL && PyDict_Next(costs, &at, &unit, &units))
        if (!PyUnicode_CheckExact(unit) || !cost_of(units, &value))
            Py_CLEAR(costs);
    if (costs == NULL)
        return NULL;
    if ((units = PyDict_GetItemWithError(costs, text_requests)) != NULL) {
        *requests = PyLong_AsLongLong(units);
    } else if (PyDict_SetItem(costs, text_requests, one) < 0) {
        Py_CLEAR(costs);
    }
    return costs;
}

/* `check_here` for a cost from Python; NULL: 1. */
static inline PyObject *
check_cost(Core *core, PyObject *scope, PyObject *attributes, PyObject *cost, i64 *at, int clock,
           Asker asker, int waits)
{
    i64 requests;
    if (likely(cost_of(cost, &requests)))
        return check_here(core, scope, attributes, requests, NULL, at, clock, asker, waits);
    PyObject *costs = costs_of(cost, &requests);
    if (costs == NULL)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    PyObject *decision =
        check_here(core, scope, attributes, requests, costs, at, clock, asker, waits);
    Py_DECREF(costs);
    return decision;
}

static inline int
instant_of(PyObject *now, i64 *value)
{
    int overflow;
    if (!PyLong_Check(now))
        return 0;
    *value = PyLong_AsLongLongAndOverflow(now, &overflow);
    return !overflow && *value < MOST_TIME && *value > -MOST_TIME;
}

static PyObject *
check(Core *core, PyObject *scope, PyObject *attributes, PyObject *cost, PyObject *now)
{
    i64 at = 0;
    PyObject *decision = Py_None;
    int clock = now == NULL || now == Py_None;
    i64 began = unlikely(core->timings.calls++ % TIMED == 0) ? monotonic_ns() : 0;
    if (unlikely(core->generation == 0 && core->unready != Py_None)) {
        if (core->unready == NULL) /* after core_clear */
            return PyErr_Format(PyExc_RuntimeError, "this engine has been collected");
        return PyObject_CallNoArgs(core->unready);
    }
    if (likely(clock ? core->own_clock : instant_of(now, &at)))
        decision = check_cost(core, scope, attributes, cost, &at, clock, CALLER, 0);
    else
        Py_INCREF(decision);
    if (unlikely(decision == Py_None)) {
        Py_DECREF(decision);
        decision = slowly(core, scope, attributes, cost, now);
    }
    if (unlikely(began) && decision != NULL)
        time_taken(&core->timings, monotonic_ns() - began);
    return likely(decision != NULL) ? decision : failing(core, scope);
}

static int
keyword(PyObject *name, PyObject *value, PyObject **into)
{
    static const char *const names[] = {"scope", "attributes", "cost", "now"};
    for (int i = 0; i < 4; i++)
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0) {
            if (into[i] != NULL) {
                PyErr_Format(PyExc_TypeError, "check() got two values for '%s'", names[i]);
                return -1;
            }
            into[i] = value;
            return 0;
        }
    PyErr_Format(PyExc_TypeError, "check() has no parameter '%U'", name);
    return -1;
}

/* check(scope, attributes={}, cost=1, now=None) */
static PyObject *
core_check(Core *core, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given[4] = {NULL};
    if (unlikely(nargs > 4)) {
        PyErr_SetString(PyExc_TypeError, "check() takes a scope, attributes and a cost");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < nargs; i++)
        given[i] = args[i];
    if (unlikely(kwnames != NULL))
        for (Py_ssize_t i = 0; i < PyTuple_Size(kwnames); i++)
            if (keyword(PyTuple_GetItem(kwnames, i), args[nargs + i], given) < 0)
                return NULL;
    if (unlikely(given[0] == NULL)) {
        PyErr_SetString(PyExc_TypeError, "check() needs a scope");
        return NULL;
    }
    return check(core, given[0], given[1] ? given[1] : empty_attributes, given[2], given[3]);
}

/* attempt(scope, attributes, cost, now, alone, waits) -> (decision, now), or None: Python has to
   decide. With `now` None, the clock is read here. `alone`: the caller is changing the engine
   itself. `waits`: the request can wait, so a refusal for now is not counted. */
static PyObject *
core_attempt(Core *core, PyObject *args)
{
    PyObject *scope, *attributes, *cost, *now;
    i64 at = 0;
    int alone, waits;
    if (!PyArg_ParseTuple(args, "OOOOpp", &scope, &attributes, &cost, &now, &alone, &waits))
        return NULL;
    int clock = now == Py_None;
    if (!(clock ? core->own_clock : instant_of(now, &at)))
        Py_RETURN_NONE;
    PyObject *decision =
        check_cost(core, scope, attributes, cost, &at, clock, alone ? ALONE : SEEN, waits);
    if (decision == NULL || decision == Py_None)
        return decision;
    return Py_BuildValue("(NL)", decision, at);
}

#define SLICE 256 /* requests that `check_many` decides before it lets other threads run */

static void
let_others_run(void)
{
    Py_BEGIN_ALLOW_THREADS
    Py_END_ALLOW_THREADS
}

/* Release the first `count` decisions of a list, and free the list: the caller never gets them. */
static void
release_all(PyObject **decisions, Py_ssize_t count)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *done = NULL;
        /* A signal handler may raise once more. */
        for (int tries = 0; done == NULL && tries < 3; tries++) {
            PyErr_Clear();
            done = PyObject_CallMethod(PyList_GetItem(*decisions, i), "release", NULL);
        }
        Py_XDECREF(done);
        if (i % SLICE == SLICE - 1)
            let_others_run();
    }
    PyErr_Clear();
    Py_CLEAR(*decisions);
    PyErr_Restore(type, error, traceback);
}

/* check_many(requests, now=None): decisions in order, all as of one reading of the clock. */
static PyObject *
core_check_many(Core *core, PyObject *args)
{
    PyObject *requests, *now = NULL, *decisions = NULL, *read = NULL;
    if (!PyArg_ParseTuple(args, "O|O", &requests, &now))
        return NULL;
    /* A copy: another thread may change a list meanwhile. */
    if ((requests = PySequence_Tuple(requests)) == NULL)
        return NULL;
    if (now == NULL || now == Py_None)
        now = read = PyLong_FromLongLong(monotonic_ns());
    i64 at = 0;
    int here = now != NULL && instant_of(now, &at);
    Py_ssize_t count = PyTuple_Size(requests);
    if (now != NULL)
        decisions = PyList_New(count);
    if (decisions != NULL)
        PyObject_GC_UnTrack(decisions); /* other threads must not meet its empty places */
    for (Py_ssize_t i = 0; decisions != NULL && i < count; i++) {
        if (unlikely(i % SLICE == SLICE - 1)) {
            let_others_run();
            if (PyErr_CheckSignals() < 0) {
                release_all(&decisions, i);
                break;
            }
        }
        PyObject *request = PyTuple_GetItem(requests, i);
        Py_ssize_t size = PyTuple_Check(request) ? PyTuple_Size(request) : 0;
        if (size < 1 || size > 3) {
            PyErr_Format(core->usage_error,
                         "request %zd is not (scope, attributes) or (scope, attributes, cost)", i);
            release_all(&decisions, i);
            break;
        }
        PyObject *scope = PyTuple_GetItem(request, 0);
        PyObject *attributes = size > 1 ? PyTuple_GetItem(request, 1) : empty_attributes;
        PyObject *decision = Py_None;
        PyObject *cost = size > 2 ? PyTuple_GetItem(request, 2) : NULL;
        i64 instant = at;
        if (likely(here && core->generation))
            decision = check_cost(core, scope, attributes, cost, &instant, 0, CALLER, 0);
        if (decision == Py_None)
            decision = check(core, scope, attributes, cost, now);
        else if (decision == NULL)
            decision = failing(core, scope);
        if (decision == NULL)
            release_all(&decisions, i);
        else
            PyList_SetItem(decisions, i, decision);
    }
    if (decisions != NULL)
        PyObject_GC_Track(decisions);
    Py_XDECREF(read);
    Py_DECREF(requests);
    return decisions;
}

/* Afterwards ------------------------------------------------------------------------------------ */

/* The engine whose own notes a decision has: their first item. NULL: there are none. */
static inline PyObject *
noting(const Decision *d)
{
    if (likely(d->notes == NULL) || !PyTuple_Check(d->notes))
        return NULL;
    return PyTuple_GetItem(d->notes, 0);
}

static PyObject *
engine_of(const Decision *d)
{
    Core *core = d->selection ? d->selection->core : NULL;
    return core ? core->engine : NULL;
}

/* Call a method of an engine, and keep the engine alive during the call. */
static PyObject *
call_engine(PyObject *engine, const char *name, const char *format, Decision *d, PyObject *more)
{
    Py_INCREF(engine);
    PyObject *done = PyObject_CallMethod(engine, name, format, d, more);
    Py_DECREF(engine);
    return done;
}

/* True if every change since a decision has reached its buckets, and no change of algorithm did:
   such a change counts what was held at its own instant. */
static int
has_followed(const Core *core, const Decision *d)
{
    if (d->selection->swaps == core->swaps)
        return 1;
    for (int i = 0; i < d->selection->count; i++) {
        const Group *g = d->selection->groups[i];
        if (d->charges[i].slot != NULL && (!kind_of(g->rule)->holds || g->former_count))
            return 0;
    }
    return core->common->sweeping; /* no swap is under way */
}

static PyObject *
decision_release(Decision *d, PyObject *unused)
{
    (void)unused;
    PyObject *engine = noting(d);
    if (unlikely(engine != NULL))
        return call_engine(engine, "release", "O", d, NULL);
    if (likely(!is_charged(d) || !d->selection->holds))
        Py_RETURN_NONE;
    Core *core = d->selection->core;
    if (core == NULL || core->engine == NULL)
        Py_RETURN_NONE; /* the engine is being collected */
    if (keeps_out(core, CALLER) || core->watched || unlikely(!has_followed(core, d)))
        return call_engine(core->engine, "release", "O", d, NULL);
    for (Py_ssize_t i = 0; i < Py_SIZE((PyObject *)d); i++)
        if (d->charges[i].slot != NULL)
            slot_free(d->charges[i].slot);
    Py_RETURN_NONE;
}

static PyObject *
decision_settle(Decision *d, PyObject *actual)
{
    PyObject *engine = noting(d);
    if (likely(engine == NULL)) {
        engine = engine_of(d);
        if (engine == NULL) /* nothing to settle, or the engine is gone */
            return PyObject_CallFunctionObjArgs(settle_nothing, d, actual, NULL);
    }
    return call_engine(engine, "settle", "OO", d, actual);
}

#endif

/* Gates: True or False, for one scope and the values of attributes named in advance. */
#ifndef RATECTL_GATE_H
#define RATECTL_GATE_H

#include "check.h"

typedef struct {
    PyObject_HEAD
    Core *core;
    PyObject *scope, *names, *cost_object;
    PyObject **each_name;   /* of `names` */
    Py_ssize_t count;
    i64 cost;
    int here;               /* the core can decide the cost */
    Selection *selection;   /* the last one, if it does not depend on the request */
} Gate;

static PyTypeObject *gate_type;

/* The selection of a call, a new reference. NULL: Python has to decide, or an error. */
static Selection *
gate_select(Gate *gate, const Source *source)
{
    Core *core = gate->core;
    i64 answer;
    if (likely(gate->selection != NULL && gate->selection->swaps == core->swaps))
        return (Selection *)Py_NewRef((PyObject *)gate->selection);
    Active *active = (Active *)PyDict_GetItemWithError(core->active, gate->scope);
    if (active == NULL || (PyObject *)active == Py_None)
        return NULL;
    Py_INCREF((PyObject *)active);
    Selection *found = (Selection *)Py_XNewRef((PyObject *)active_select(active, source, &answer));
    if (found != NULL && active->chooser == NULL) {
        PyObject *before = (PyObject *)gate->selection;
        gate->selection = (Selection *)Py_NewRef((PyObject *)found);
        Py_XDECREF(before);
    }
    Py_DECREF((PyObject *)active);
    return found;
}

/* Make an ordinary check, if the gate itself cannot decide. */
static PyObject *
gate_check(Gate *gate, const Source *source)
{
    PyObject *attributes = PyDict_New();
    for (Py_ssize_t i = 0; attributes != NULL && i < source->count; i++)
        if (source->values[i] != Py_None &&
            PyDict_SetItem(attributes, source->names[i], source->values[i]) < 0)
            Py_CLEAR(attributes);
    if (attributes == NULL)
        return NULL;
    PyObject *decision = check(gate->core, gate->scope, attributes, gate->cost_object, NULL);
    Py_DECREF(attributes);
    if (decision == NULL)
        return NULL;
    int allowed = PyObject_IsTrue(decision);
    Py_DECREF(decision);
    return allowed < 0 ? NULL : PyBool_FromLong(allowed);
}

static PyObject *
gate_call(Gate *gate, PyObject *const *args, Py_ssize_t nargs)
{
    Core *core = gate->core;
    Source source = {.names = gate->each_name, .values = args, .count = nargs};
    if (unlikely(core == NULL)) /* after gate_clear */
        return PyErr_Format(PyExc_RuntimeError, "this engine has been collected");
    if (unlikely(nargs != gate->count)) {
        PyErr_Format(PyExc_TypeError, "this gate takes %zd values, not %zd", gate->count, nargs);
        return NULL;
    }
    if (likely(core->own_clock && gate->here)) {
        Request q;
        q.selection = gate_select(gate, &source);
        if (likely(q.selection != NULL)) {
            q.cost = gate->cost;
            q.costs = NULL;
            q.waits = 0;
            i64 answer = decide(core, &q, &source, 0, 1, CALLER);
            if (unlikely(answer == 1 && q.selection->holds))
                drop_slots(&q); /* held for `hold` */
            Py_DECREF((PyObject *)q.selection);
            if (likely(answer >= 0))
                return PyBool_FromLong((long)answer);
        }
        if (unlikely(PyErr_Occurred() != NULL)) {
            if (!PyErr_ExceptionMatches(PyExc_Exception))
                return NULL;
            PyErr_Clear();
        }
    }
    return gate_check(gate, &source);
}

static PyMethodDef gate_method = {
    "gate", (PyCFunction)(void (*)(void))gate_call, METH_FASTCALL,
    "May a request with these values pass? True or False.",
};

/* gate(scope, names, cost) */
static PyObject *
core_gate(Core *core, PyObject *args)
{
    PyObject *scope, *names, *cost;
    if (!PyArg_ParseTuple(args, "UO!O", &scope, &PyTuple_Type, &names, &cost))
        return NULL;
    Gate *gate = (Gate *)((allocfunc)PyType_GetSlot(gate_type, Py_tp_alloc))(gate_type, 0);
    if (gate == NULL)
        return NULL;
    gate->core = (Core *)Py_NewRef((PyObject *)core);
    gate->scope = PyUnicode_FromObject(scope);
    gate->cost_object = Py_NewRef(cost);
    gate->here = cost_of(cost, &gate->cost);
    gate->names = interned(names);
    gate->count = PyTuple_Size(names);
    gate->each_name = PyMem_Calloc((size_t)gate->count + 1, sizeof *gate->each_name);
    PyObject *function = NULL;
    if (gate->each_name == NULL) {
        PyErr_NoMemory();
    } else if (gate->names != NULL && gate->scope != NULL) {
        for (Py_ssize_t i = 0; i < gate->count; i++)
            gate->each_name[i] = PyTuple_GetItem(gate->names, i);
        function = PyCFunction_NewEx(&gate_method, (PyObject *)gate, NULL);
    }
    Py_DECREF((PyObject *)gate);
    return function;
}

static int
gate_traverse(Gate *gate, visitproc visit, void *arg)
{
    Py_VISIT(TYPE(gate));
    Py_VISIT(gate->core);
    Py_VISIT(gate->selection);
    return 0;
}

static int
gate_clear(Gate *gate)
{
    Py_CLEAR(gate->core);
    Py_CLEAR(gate->selection);
    return 0;
}

static void
gate_dealloc(Gate *gate)
{
    PyTypeObject *type = TYPE(gate);
    PyObject_GC_UnTrack((PyObject *)gate);
    gate_clear(gate);
    PyMem_Free(gate->each_name);
    Py_XDECREF(gate->scope);
    Py_XDECREF(gate->names);
    Py_XDECREF(gate->cost_object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(gate);
    Py_DECREF(type);
}

static PyType_Slot gate_slots[] = {
    {Py_tp_dealloc, gate_dealloc},
    {Py_tp_traverse, gate_traverse},
    {Py_tp_clear, gate_clear},
    {0, NULL},
};
static PyType_Spec gate_spec = {
    "ratectl.engine.native._fast.Gate", sizeof(Gate), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, gate_slots,
};

#endif

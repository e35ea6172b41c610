/* ratectl.engine.native._fast: the compiled core of the engine.

   It decides, on packed buckets, all requests that need no Python, and passes the others to
   native/engine.py, which does the same as pure.py. One translation unit; read its headers in this
   order:

     base.h        integers, memory, keyed hashes  group*.h      the buckets of one limit
     rule.h        rules, buckets, arithmetic      selection.h   choice of a request's groups
     cells.h, windows.h  sliding windows           decision.h    the answer
     slots.h       slots of concurrency limits     decide.h      look, then charge all or none
     kinds.h       the table of algorithms         check.h       check, check_many, release, settle
     table.h       buckets by key, bounded         gate.h        the answer alone
     counters.h    counts of requests              fill.h        how full buckets are
     timing.h      how long decisions took
     traffic.h     the busiest keys                witness.h     a record of crashes
     rls_read.h, rls_write.h, rls.h                requests of Envoy

   Under the GIL, C code that runs no Python is atomic, and needs no other lock. It is built on the
   limited API, which free-threaded Python lacks: there the build fails, and pure.py is used. */

#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include "fill.h"
#include "gate.h"
#include "rls.h"
#include "witness.h"

/* The core -------------------------------------------------------------------------------------- */

static PyTypeObject *core_type;

/* Core(own_clock, hash_here, k0, k1, key_bits, max_bytes, max_buckets, slowly, engine, plain,
   usage_error) */
static PyObject *
core_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    int own_clock, hash_here, key_bits;
    unsigned long long k0, k1;
    long long max_bytes, max_buckets;
    PyObject *slowly, *engine, *plain, *usage_error;
    if ((kwargs != NULL && PyDict_Size(kwargs)) ||
        !PyArg_ParseTuple(args, "ppKKiLLOOOO", &own_clock, &hash_here, &k0, &k1, &key_bits,
                          &max_bytes, &max_buckets, &slowly, &engine, &plain, &usage_error))
        return NULL;
    Core *core = (Core *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (core == NULL)
        return NULL;
    core->slowly = Py_NewRef(slowly);
    core->engine = Py_NewRef(engine);
    core->plain = Py_NewRef(plain);
    core->usage_error = Py_NewRef(usage_error);
    core->failed = Py_NewRef(Py_None);
    core->unready = Py_NewRef(Py_None);
    core->own_clock = own_clock;
    core->last = INT64_MIN;
    core->active = PyDict_New();
    core->common = PyMem_Calloc(1, sizeof *core->common);
    if (core->active == NULL || core->common == NULL) {
        Py_DECREF((PyObject *)core);
        return core->common == NULL ? PyErr_NoMemory() : NULL;
    }
    *core->common = (Common){
        .references = 1,
        .secret = {k0, k1, key_bits >= 64 ? UINT64_MAX : ((u64)1 << key_bits) - 1, hash_here},
        /* The allocator itself needs a sixteenth. */
        .budget = {.most = (size_t)(max_bytes - max_bytes / 16), .most_buckets = max_buckets},
        .sweeping = 1,
        .evicts = 1,
    };
    return (PyObject *)core;
}

static int
core_traverse(Core *core, visitproc visit, void *arg)
{
    Py_VISIT(TYPE(core));
    Py_VISIT(core->active);
    for (int i = 0; i < RECENT; i++)
        Py_VISIT(core->recent[i].active);
    Py_VISIT(core->slowly);
    Py_VISIT(core->engine);
    Py_VISIT(core->plain);
    Py_VISIT(core->failed);
    Py_VISIT(core->unready);
    return 0;
}

static int
core_clear(Core *core)
{
    core->generation = core->own_clock = 0; /* a later call raises in `check` */
    Py_CLEAR(core->active);
    forget_recent(core);
    Py_CLEAR(core->slowly);
    Py_CLEAR(core->engine);
    Py_CLEAR(core->plain);
    Py_CLEAR(core->failed);
    Py_CLEAR(core->unready);
    return 0;
}

static void
core_dealloc(Core *core)
{
    PyTypeObject *type = TYPE(core);
    PyObject_GC_UnTrack((PyObject *)core);
    core_clear(core);
    Py_XDECREF(core->usage_error);
    Py_XDECREF(core->far);
    if (core->common != NULL)
        common_release(core->common);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(core);
    Py_DECREF(type);
}

/* install(active, generation): set the Actives of a generation; selections made before end. */
static PyObject *
core_install(Core *core, PyObject *args)
{
    PyObject *active;
    long long generation;
    if (!PyArg_ParseTuple(args, "O!L", &PyDict_Type, &active, &generation))
        return NULL;
    PyObject *before = core->active;
    core->active = Py_NewRef(active);
    core->generation = generation;
    core->swaps++;
    forget_recent(core);
    Py_DECREF(before);
    Py_RETURN_NONE;
}

static PyObject *
core_select(Core *core, PyObject *args)
{
    PyObject *scope, *groups, *marks;
    int shadow;
    if (!PyArg_ParseTuple(args, "OO!pO!", &scope, &PyTuple_Type, &groups, &shadow, &PyTuple_Type,
                          &marks))
        return NULL;
    return selection_create(core, scope, core->generation, core->swaps, groups, shadow, marks);
}

static PyObject *
core_group(Core *core, PyObject *args)
{
    PyObject *scope, *name, *per, *counters, *unit;
    if (!PyArg_ParseTuple(args, "OOO!O!O", &scope, &name, &PyTuple_Type, &per, counters_type,
                          &counters, &unit))
        return NULL;
    return group_new(core->common, scope, name, per, counters, unit);
}

#define COMMON(name, make, field)                                                                 \
    static PyObject *core_get_##name(Core *core, void *unused)                                    \
    {                                                                                             \
        (void)unused;                                                                             \
        return make(core->common->field);                                                         \
    }
COMMON(buckets, PyLong_FromLongLong, budget.buckets)
COMMON(most_buckets, PyLong_FromLongLong, budget.most_buckets)
COMMON(bytes, PyLong_FromSize_t, budget.used)
COMMON(overflowed, PyLong_FromLongLong, overflowed)
COMMON(evicted, PyLong_FromLongLong, evicted)
COMMON(most_bytes, PyLong_FromSize_t, budget.most)
COMMON(sweeping, PyBool_FromLong, sweeping)
COMMON(evicts, PyBool_FromLong, evicts)

static PyObject *
core_get_timings(Core *core, void *unused)
{
    (void)unused;
    return timings_shown(&core->timings);
}

static int
core_set_sweeping(Core *core, PyObject *value, void *unused)
{
    (void)unused;
    core->common->sweeping = value != NULL && PyObject_IsTrue(value) == 1;
    return 0;
}

static int
core_set_evicts(Core *core, PyObject *value, void *unused)
{
    (void)unused;
    core->common->evicts = value != NULL && PyObject_IsTrue(value) == 1;
    return 0;
}

static PyObject *
core_get_last(Core *core, void *unused)
{
    (void)unused;
    return core->far != NULL ? Py_NewRef(core->far) : PyLong_FromLongLong(core->last);
}

static int
core_set_last(Core *core, PyObject *value, void *unused)
{
    i64 last;
    (void)unused;
    if (value == NULL || !PyLong_CheckExact(value)) {
        PyErr_SetString(PyExc_TypeError, "last is an instant");
        return -1;
    }
    PyObject *before = core->far;
    int near = instant_of(value, &last);
    core->far = near ? NULL : Py_NewRef(value);
    core->last = near ? last : INT64_MAX;
    Py_XDECREF(before);
    return 0;
}

static PyMethodDef core_methods[] = {
    {"check", (PyCFunction)(void (*)(void))core_check, METH_FASTCALL | METH_KEYWORDS,
     "check(scope, attributes={}, cost=1, now=None)\n--\n\n"
     "May this request pass? Charges every limit of the scope or, when refused, none."},
    {"check_many", (PyCFunction)core_check_many, METH_VARARGS,
     "check_many(requests, now=None)\n--\n\n"
     "Decide requests, each (scope, attributes) or (scope, attributes, cost), in order, as of one "
     "reading of the clock."},
    {"attempt", (PyCFunction)core_attempt, METH_VARARGS, NULL},
    {"gate", (PyCFunction)core_gate, METH_VARARGS, NULL},
    {"rls", (PyCFunction)(void (*)(void))core_rls, METH_FASTCALL, NULL},
    {"install", (PyCFunction)core_install, METH_VARARGS, NULL},
    {"select", (PyCFunction)core_select, METH_VARARGS, NULL},
    {"group", (PyCFunction)core_group, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef core_members[] = {
    {"turn", T_LONGLONG, offsetof(Core, turn), 0, NULL},
    {"mirrored", T_BOOL, offsetof(Core, mirrored), 0, NULL},
    {"watched", T_BOOL, offsetof(Core, watched), 0, NULL},
    {"no_policy", T_LONGLONG, offsetof(Core, no_policy), 0, NULL},
    {"failed", T_OBJECT, offsetof(Core, failed), 0, NULL},
    {"unready", T_OBJECT, offsetof(Core, unready), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef core_getset[] = {
    {"buckets", (getter)core_get_buckets, NULL, NULL, NULL},
    {"most_buckets", (getter)core_get_most_buckets, NULL, NULL, NULL},
    {"bytes", (getter)core_get_bytes, NULL, NULL, NULL},
    {"overflowed", (getter)core_get_overflowed, NULL, NULL, NULL},
    {"evicted", (getter)core_get_evicted, NULL, NULL, NULL},
    {"most_bytes", (getter)core_get_most_bytes, NULL, NULL, NULL},
    {"timings", (getter)core_get_timings, NULL, NULL, NULL},
    {"sweeping", (getter)core_get_sweeping, (setter)core_set_sweeping, NULL, NULL},
    {"evicts", (getter)core_get_evicts, (setter)core_set_evicts, NULL, NULL},
    {"last", (getter)core_get_last, (setter)core_set_last, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot core_slots[] = {
    {Py_tp_new, core_new},
    {Py_tp_dealloc, core_dealloc},
    {Py_tp_traverse, core_traverse},
    {Py_tp_clear, core_clear},
    {Py_tp_methods, core_methods},
    {Py_tp_members, core_members},
    {Py_tp_getset, core_getset},
    {Py_tp_doc, "The compiled core of one engine; see native/engine.py."},
    {0, NULL},
};
static PyType_Spec core_spec = {
    "ratectl.engine.native._fast.Core", sizeof(Core), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    core_slots,
};

/* The module ------------------------------------------------------------------------------------ */

static PyObject *
floor_call(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    (void)self, (void)args, (void)nargs;
    Py_RETURN_NONE;
}

static PyObject *
now_call(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return PyLong_FromLongLong(monotonic_ns());
}

/* bind(describe, settle_nothing, explain): set the Python functions that decisions call. */
static PyObject *
bind_call(PyObject *self, PyObject *args)
{
    PyObject *describe, *nothing, *explain;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOO", &describe, &nothing, &explain))
        return NULL;
    describe_decision = Py_NewRef(describe);
    settle_nothing = Py_NewRef(nothing);
    explain_decision = Py_NewRef(explain);
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"floor", (PyCFunction)(void (*)(void))floor_call, METH_FASTCALL,
     "Nothing: what a call of C code costs."},
    {"now", now_call, METH_NOARGS, "The clock of engines, in nanoseconds: time.monotonic_ns()'s."},
    {"bind", bind_call, METH_VARARGS, NULL},
    {"fill", fill, METH_VARARGS, NULL},
    {"witness", witness_call, METH_O,
     "Have a crash of this process write the number of its signal to an open file."},
    {"dismiss", dismiss_call, METH_O, "Have it write nothing any more to that file."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT, "ratectl.engine.native._fast", "The compiled core of the engine.", -1,
    module_methods, NULL, NULL, NULL, NULL,
};

static int
add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **into)
{
    *into = (PyTypeObject *)PyType_FromSpec(spec);
    return *into == NULL ? -1 : PyModule_AddType(module, *into);
}

PyMODINIT_FUNC
PyInit__fast(void)
{
    static const char *const names[] = {"ok", "limited", "never", "shadow", "no_policy"};
    PyObject *module = PyModule_Create(&module_def);
    if (module == NULL)
        return NULL;
    for (int i = 0; i < 5; i++)
        reasons[i] = PyUnicode_InternFromString(names[i]);
    text_requests = PyUnicode_InternFromString("requests");
    text_ns = PyUnicode_InternFromString("ns");
    text_floor = PyUnicode_InternFromString("floor");
    seconds_divisor = PyFloat_FromDouble(1e9);
    empty_attributes = PyDict_New();
    one = PyLong_FromLong(1);
    PyObject *hundred = PyLong_FromLong(100);
    forever = PyNumber_Lshift(one, hundred);
    Py_DECREF(hundred);
    if (add_type(module, &wallet_spec, &wallet_type) < 0 ||
        add_type(module, &key_wallets_spec, &key_wallets_type) < 0 ||
        add_type(module, &rule_spec, &rule_type) < 0 ||
        add_type(module, &slot_spec, &slot_type) < 0 ||
        add_type(module, &batch_spec, &batch_type) < 0 ||
        add_type(module, &counters_spec, &counters_type) < 0 ||
        add_type(module, &group_spec, &group_type) < 0 ||
        add_type(module, &chooser_spec, &chooser_type) < 0 ||
        add_type(module, &selection_spec, &selection_type) < 0 ||
        add_type(module, &active_spec, &active_type) < 0 ||
        add_type(module, &decision_spec, &decision_type) < 0 ||
        add_type(module, &gate_spec, &gate_type) < 0 ||
        add_type(module, &core_spec, &core_type) < 0 ||
        PyModule_AddIntConstant(module, "MOST", MOST_TIME) < 0)
        Py_CLEAR(module);
    return module;
}

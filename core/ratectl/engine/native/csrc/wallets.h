/* Wallets of a limit across the cluster that counts per key: see keyed_bucket.py.

   A hash table with linear probing, by the fingerprints of keys. Python code runs only where
   objects are made; then nothing is held but keys, which are looked up again. */
#ifndef RATECTL_WALLETS_H
#define RATECTL_WALLETS_H

#include "base.h"

#define MOST_WALLETS (1u << 17)

typedef struct {
    u64 key;            /* 0: the place is free */
    u64 number;         /* of the key, for other processes; 0: not computed yet */
    i64 left;           /* tokens that may be spent until the deadline */
    i64 spent;          /* these three: since the wallet was read */
    i64 missed, largest;
    int used;           /* its key is in `used` */
} KeyWallet;

typedef struct {
    PyObject_HEAD
    i64 deadline;       /* nothing may be spent of the wallets from then on, */
    i64 until;          /* and nothing of the buckets' own parts from then on */
    Secret secret;      /* for numbers of keys */
    int named;          /* there is a secret */
    KeyWallet *places;  /* room + 1 of them; NULL without a wallet */
    u32 room, count;    /* room: a power of two, minus one */
    u64 *used;          /* keys that were asked for since they were read */
    u32 used_count, used_room;
} KeyWallets;

static PyTypeObject *key_wallets_type;

static inline KeyWallet *
wallet_place(const KeyWallets *w, u64 key)
{
    u32 at = (u32)key & w->room;
    while (w->places[at].key && w->places[at].key != key)
        at = (at + 1) & w->room;
    return &w->places[at];
}

/* The wallet of a key. NULL: it has none. */
static inline KeyWallet *
wallet_find(const KeyWallets *w, u64 key)
{
    if (w->places == NULL)
        return NULL;
    KeyWallet *found = wallet_place(w, key);
    return found->key ? found : NULL;
}

static int
wallets_grow(KeyWallets *w)
{
    u32 before = w->places == NULL ? 0 : w->room + 1, size = before ? 2 * before : 16;
    KeyWallet *old = w->places, *places = calloc(size, sizeof *places);
    if (places == NULL)
        return -1;
    w->places = places;
    w->room = size - 1;
    for (u32 i = 0; i < before; i++)
        if (old[i].key)
            *wallet_place(w, old[i].key) = old[i];
    free(old);
    return 0;
}

/* The wallet of a key; a new one if it has none. NULL: there is no room. */
static __attribute__((noinline)) KeyWallet *
wallet_made(KeyWallets *w, u64 key)
{
    KeyWallet *found = wallet_find(w, key);
    if (found != NULL)
        return found;
    if (w->count >= MOST_WALLETS)
        return NULL;
    if ((w->places == NULL || 2 * w->count > w->room) && wallets_grow(w) < 0)
        return NULL;
    found = wallet_place(w, key);
    *found = (KeyWallet){.key = key};
    w->count++;
    return found;
}

/* Close the gap that a wallet leaves, so that others are still found. */
static void
wallet_remove(KeyWallets *w, KeyWallet *gone)
{
    u32 gap = (u32)(gone - w->places);
    for (u32 at = (gap + 1) & w->room; w->places[at].key; at = (at + 1) & w->room) {
        u32 home = (u32)w->places[at].key & w->room;
        if (((at - home) & w->room) >= ((at - gap) & w->room)) {
            w->places[gap] = w->places[at];
            gap = at;
        }
    }
    w->places[gap].key = 0;
    w->count--;
}

/* Count a request for which a wallet has too little, and what its bucket owes. The sum stops at the
   largest count. */
static inline void
wallet_missed(KeyWallet *wallet, i64 cost, i64 owed)
{
    i64 more = owed > MOST_COUNT - cost ? MOST_COUNT : cost + owed;
    wallet->missed = wallet->missed > MOST_COUNT - more ? MOST_COUNT : wallet->missed + more;
    if (wallet->largest < cost)
        wallet->largest = cost;
}

/* Note that a key was asked for. */
static inline void
wallet_used(KeyWallets *w, KeyWallet *wallet)
{
    if (likely(wallet->used))
        return;
    if (w->used_count == w->used_room) {
        u32 room = w->used_room ? 2 * w->used_room : 64;
        u64 *used = realloc(w->used, room * sizeof *used);
        if (used == NULL)
            return; /* out of memory: it is noted the next time */
        w->used = used;
        w->used_room = room;
    }
    w->used[w->used_count++] = wallet->key;
    wallet->used = 1;
}

/* For Python -------------------------------------------------------------------------------------- */

static PyObject *
key_wallets_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if ((kwargs != NULL && PyDict_Size(kwargs)) || PyTuple_Size(args)) {
        PyErr_SetString(PyExc_TypeError, "KeyWallets() takes no arguments");
        return NULL;
    }
    KeyWallets *w = (KeyWallets *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (w != NULL)
        w->deadline = w->until = -((i64)1 << 62);
    return (PyObject *)w;
}

static void
wallets_clear(KeyWallets *w)
{
    free(w->places);
    free(w->used);
    w->places = NULL;
    w->used = NULL;
    w->room = w->count = w->used_count = w->used_room = 0;
}

static void
key_wallets_dealloc(KeyWallets *w)
{
    PyTypeObject *type = TYPE(w);
    wallets_clear(w);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(w);
    Py_DECREF(type);
}

/* clear(): remove all wallets. */
static PyObject *
key_wallets_clear(KeyWallets *w, PyObject *unused)
{
    (void)unused;
    wallets_clear(w);
    Py_RETURN_NONE;
}

/* total() -> tokens in all wallets. */
static PyObject *
key_wallets_total(KeyWallets *w, PyObject *unused)
{
    (void)unused;
    i64 total = 0;
    for (u32 i = 0; w->places != NULL && i <= w->room; i++)
        if (w->places[i].key)
            total += w->places[i].left;
    return PyLong_FromLongLong(total);
}

static int
half_of(PyObject *keys, const char *name, u64 *into)
{
    PyObject *half = PyObject_GetAttrString(keys, name);
    *into = half == NULL ? 0 : PyLong_AsUnsignedLongLong(half);
    Py_XDECREF(half);
    return PyErr_Occurred() ? -1 : 0;
}

/* name_keys(stable_keys): number keys under this secret. Removes all wallets. */
static PyObject *
key_wallets_name_keys(KeyWallets *w, PyObject *keys)
{
    Secret secret = {.mask = UINT64_MAX, .own = 1};
    if (half_of(keys, "k0", &secret.k0) < 0 || half_of(keys, "k1", &secret.k1) < 0)
        return NULL;
    wallets_clear(w);
    w->secret = secret;
    w->named = 1;
    Py_RETURN_NONE;
}

/* collect() -> [(number, key, left, spent, missed, largest)]: keys that were asked for since the
   last call, and what happened to their wallets since. */
static PyObject *
key_wallets_collect(KeyWallets *w, PyObject *unused)
{
    (void)unused;
    PyObject *rows = PyList_New(0);
    u64 *used = w->used;
    u32 count = w->used_count;
    if (rows == NULL)
        return NULL;
    w->used = NULL;
    w->used_count = w->used_room = 0;
    for (u32 i = 0; i < count && rows != NULL; i++) {
        KeyWallet *found = wallet_find(w, used[i]);
        if (found == NULL)
            continue;
        found->used = 0;
        if (!found->number) { /* Python has decided: the next request makes a wallet with a number */
            wallet_remove(w, found);
            continue;
        }
        KeyWallet row = *found;
        found->spent = found->missed = found->largest = 0;
        PyObject *made = Py_BuildValue("(KKLLLL)", row.number, row.key, row.left, row.spent,
                                       row.missed, row.largest);
        if (made == NULL || PyList_Append(rows, made) < 0)
            Py_CLEAR(rows);
        Py_XDECREF(made);
    }
    free(used);
    return rows;
}

/* deposit(key, tokens) -> True if the key has a wallet: it has so many more then. */
static PyObject *
key_wallets_deposit(KeyWallets *w, PyObject *args)
{
    unsigned long long key;
    long long tokens;
    if (!PyArg_ParseTuple(args, "KL", &key, &tokens))
        return NULL;
    KeyWallet *found = wallet_find(w, key);
    if (found != NULL)
        found->left += tokens;
    return PyBool_FromLong(found != NULL);
}

/* withdraw(key, most) -> how many tokens were taken out, at most so many. */
static PyObject *
key_wallets_withdraw(KeyWallets *w, PyObject *args)
{
    unsigned long long key;
    long long most;
    if (!PyArg_ParseTuple(args, "KL", &key, &most))
        return NULL;
    KeyWallet *found = wallet_find(w, key);
    i64 taken = found == NULL ? 0 : found->left < most ? found->left : most;
    if (taken > 0)
        found->left -= taken;
    return PyLong_FromLongLong(taken > 0 ? taken : 0);
}

/* close(key) -> (left, spent): remove the wallet of a key, which may have none. */
static PyObject *
key_wallets_close(KeyWallets *w, PyObject *key)
{
    u64 k = PyLong_AsUnsignedLongLong(key);
    if (PyErr_Occurred())
        return NULL;
    KeyWallet *found = wallet_find(w, k);
    i64 left = 0, spent = 0;
    if (found != NULL) {
        left = found->left;
        spent = found->spent;
        wallet_remove(w, found);
    }
    return Py_BuildValue("(LL)", left, spent);
}

/* draw(key, cost, now, owed) -> what would be left after `cost`; -1: there is less, or the bucket owes
   some, and it is missed. */
static PyObject *
key_wallets_draw(KeyWallets *w, PyObject *args)
{
    unsigned long long key;
    long long cost, now, owed;
    if (!PyArg_ParseTuple(args, "KLLL", &key, &cost, &now, &owed))
        return NULL;
    KeyWallet *found = w->named ? wallet_made(w, key) : NULL;
    if (found == NULL)
        return PyLong_FromLong(-1);
    wallet_used(w, found);
    if (!owed && now < w->deadline && found->left >= cost)
        return PyLong_FromLongLong(found->left - cost);
    wallet_missed(found, cost, owed);
    return PyLong_FromLong(-1);
}

/* left(key) -> tokens in the wallet of a key. One of a group that is not made yet has none. */
static PyObject *
key_wallets_left(KeyWallets *w, PyObject *key)
{
    if (!PyLong_Check(key))
        return PyLong_FromLong(0);
    u64 k = PyLong_AsUnsignedLongLong(key);
    if (PyErr_Occurred())
        return NULL;
    KeyWallet *found = wallet_find(w, k);
    return PyLong_FromLongLong(found == NULL ? 0 : found->left);
}

/* spend(key, cost): take what a draw has found. */
static PyObject *
key_wallets_spend(KeyWallets *w, PyObject *args)
{
    unsigned long long key;
    long long cost;
    if (!PyArg_ParseTuple(args, "KL", &key, &cost))
        return NULL;
    KeyWallet *found = wallet_find(w, key);
    if (found != NULL) {
        found->left -= cost;
        found->spent += cost;
    }
    Py_RETURN_NONE;
}

/* want(key): note that a key was asked for. */
static PyObject *
key_wallets_want(KeyWallets *w, PyObject *key)
{
    u64 k = PyLong_AsUnsignedLongLong(key);
    if (PyErr_Occurred())
        return NULL;
    KeyWallet *found = w->named ? wallet_made(w, k) : NULL;
    if (found != NULL)
        wallet_used(w, found);
    Py_RETURN_NONE;
}

static PyObject *
key_wallets_get_count(KeyWallets *w, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(w->count);
}

static PyMethodDef key_wallets_methods[] = {
    {"total", (PyCFunction)key_wallets_total, METH_NOARGS, NULL},
    {"name_keys", (PyCFunction)key_wallets_name_keys, METH_O, NULL},
    {"collect", (PyCFunction)key_wallets_collect, METH_NOARGS, NULL},
    {"deposit", (PyCFunction)key_wallets_deposit, METH_VARARGS, NULL},
    {"withdraw", (PyCFunction)key_wallets_withdraw, METH_VARARGS, NULL},
    {"close", (PyCFunction)key_wallets_close, METH_O, NULL},
    {"clear", (PyCFunction)key_wallets_clear, METH_NOARGS, NULL},
    {"draw", (PyCFunction)key_wallets_draw, METH_VARARGS, NULL},
    {"left", (PyCFunction)key_wallets_left, METH_O, NULL},
    {"spend", (PyCFunction)key_wallets_spend, METH_VARARGS, NULL},
    {"want", (PyCFunction)key_wallets_want, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef key_wallets_members[] = {
    {"deadline", T_LONGLONG, offsetof(KeyWallets, deadline), 0, NULL},
    {"until", T_LONGLONG, offsetof(KeyWallets, until), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef key_wallets_getset[] = {
    {"count", (getter)key_wallets_get_count, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot key_wallets_slots[] = {
    {Py_tp_new, key_wallets_new},
    {Py_tp_dealloc, key_wallets_dealloc},
    {Py_tp_methods, key_wallets_methods},
    {Py_tp_members, key_wallets_members},
    {Py_tp_getset, key_wallets_getset},
    {Py_tp_doc, "KeyWallets(): see keyed_bucket.py."},
    {0, NULL},
};
static PyType_Spec key_wallets_spec = {
    "ratectl.engine.native._fast.KeyWallets", sizeof(KeyWallets), 0, Py_TPFLAGS_DEFAULT,
    key_wallets_slots,
};

#endif

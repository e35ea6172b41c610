/* Basics of the engine's C core: wide integers, sentinels, memory, keyed hashes. */
#ifndef RATECTL_BASE_H
#define RATECTL_BASE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int64_t i64;
typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;
typedef uint16_t u16;
typedef __int128 i128;
typedef unsigned __int128 u128;

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define TYPE(object) Py_TYPE((PyObject *)(object))

/* Stand for a wait in nanoseconds; the same numbers as in algorithms/protocol.py. */
#define NEVER (-1)
#define UNKNOWN (-2)

/* No answer: the request is beyond this core, and Python decides (see native/engine.py). */
#define SLOW (-3)

/* Largest instant, count and cost that are decided here: sums of a few still fit 64 bits. */
#define MOST_TIME ((i64)1 << 61)
#define MOST_COUNT ((i64)1 << 61)

static inline i64
floor_div(i64 a, i64 b)
{
    i64 q = a / b;
    return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}

/* n // d. The quotient must fit 64 bits, or the caller checks it. */
static inline u128
wide_div(u128 n, u64 d)
{
    u64 high = (u64)(n >> 64);
    if (high == 0)
        return (u64)n / d;
#if defined(__x86_64__)
    if (high < d) {
        u64 q, r;
        __asm__("divq %4" : "=a"(q), "=d"(r) : "a"((u64)n), "d"(high), "r"(d) : "cc");
        return q;
    }
#endif
    return n / d;
}

static inline u128
wide_ceil_div(u128 n, u64 d)
{
    return wide_div(n + (d - 1), d);
}

static inline i64
monotonic_ns(void)
{
    struct timespec at;
#if defined(__APPLE__)
    clock_gettime(CLOCK_UPTIME_RAW, &at);  /* as time.monotonic_ns() does there */
#else
    clock_gettime(CLOCK_MONOTONIC, &at);
#endif
    return (i64)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* Memory ---------------------------------------------------------------------------------------- */

/* Memory and number of all buckets of an engine. */
typedef struct {
    size_t used, most;      /* bytes */
    i64 buckets, most_buckets;
} Budget;

/* realloc within the budget; NULL also if it would exceed the budget, unless `force`. */
static void *
grown(Budget *budget, void *memory, size_t from, size_t to, int force)
{
    if (!force && budget->used + to - from > budget->most)
        return NULL;
    void *larger = realloc(memory, to);
    if (larger != NULL)
        budget->used += to - from;
    return larger;
}

/* Keys ------------------------------------------------------------------------------------------

   A key is kept as a fingerprint of 64 bits of a hash that is keyed for each process, or for all
   that share a secret (stable keys). Two keys of
   one limit with the same fingerprint share a bucket: they may be refused for each other's
   requests, and are never admitted beyond the limit. Among a million keys, the chance of that for
   any two is 3 in 10^8, and without the secret, such keys cannot be searched for. */

typedef struct {
    u64 k0, k1;     /* the secret */
    u64 mask;       /* of fingerprints: all bits, except in tests of equal fingerprints */
    int own;        /* use our own hash: keys are stable, or Python's is not keyed (PYTHONHASHSEED) */
} Secret;

static inline u64
mixed(u64 x)
{
    x ^= x >> 32;
    x *= 0x9E3779B97F4A7C15u;
    x ^= x >> 29;
    return x;
}

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND                                                                                  \
    do {                                                                                          \
        v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32);                                 \
        v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2;                                                    \
        v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0;                                                    \
        v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32);                                 \
    } while (0)

/* Up to 8 bytes of a text as a number, the first one lowest: the same on every machine. */
static inline u64
text_word(const char *text, size_t size)
{
    u64 word = 0;
    memcpy(&word, text, size);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* SipHash-1-3 (Aumasson and Bernstein 2012, with the rounds that CPython and Rust use). The hash of
   keys is the same as in engine/stable_keys.py: other processes compute it under a shared secret. */
static u64
siphash(const Secret *secret, const char *text, Py_ssize_t size)
{
    u64 v0 = secret->k0 ^ 0x736f6d6570736575u, v1 = secret->k1 ^ 0x646f72616e646f6du;
    u64 v2 = secret->k0 ^ 0x6c7967656e657261u, v3 = secret->k1 ^ 0x7465646279746573u;
    u64 word, last = (u64)size << 56;
    for (; size >= 8; size -= 8, text += 8) {
        word = text_word(text, 8);
        v3 ^= word;
        SIPROUND;
        v0 ^= word;
    }
    last |= text_word(text, (size_t)size);
    v3 ^= last;
    SIPROUND;
    v0 ^= last;
    v2 ^= 0xff;
    SIPROUND; SIPROUND; SIPROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

/* The hash of a text, which is an exact str. Runs no Python code. -1 in *failed for an error. */
static inline u64
text_hash(const Secret *secret, PyObject *text, int *failed)
{
    if (likely(!secret->own)) {
        Py_hash_t hash = PyObject_Hash(text);
        if (unlikely(hash == -1))
            *failed = -1;
        return mixed((u64)hash ^ secret->k0);
    }
    Py_ssize_t size;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size);
    if (utf8 != NULL)
        return mixed(siphash(secret, utf8, size));
    PyErr_Clear(); /* lone surrogates */
    PyObject *bytes = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
    if (bytes == NULL) {
        *failed = -1;
        return 0;
    }
    u64 hash = siphash(secret, PyBytes_AsString(bytes), PyBytes_Size(bytes));
    Py_DECREF(bytes);
    return mixed(hash);
}

/* The hash of any value of a key; absent and None are one value of their own. For a value whose
   text foreign code makes, *failed is SLOW: Python reads it once. */
static u64
value_hash(const Secret *secret, PyObject *value, int *failed)
{
    if (value == NULL || value == Py_None)
        return mixed(~secret->k1);
    if (likely(PyUnicode_CheckExact(value)))
        return text_hash(secret, value, failed);
    if (!PyLong_CheckExact(value)) {
        *failed = SLOW;
        return 0;
    }
    PyObject *text = PyObject_Str(value);
    if (text == NULL) {
        *failed = -1;
        return 0;
    }
    u64 hash = text_hash(secret, text, failed);
    Py_DECREF(text);
    return hash;
}

/* The hash of any value; foreign code may make its text. */
static u64
read_value_hash(const Secret *secret, PyObject *value, int *failed)
{
    u64 hash = value_hash(secret, value, failed);
    if (likely(*failed != SLOW))
        return hash;
    *failed = 0;
    /* An exact str: the hash of a subclass may run foreign code, and str(value) may return one. */
    PyObject *made = PyUnicode_Check(value) ? Py_NewRef(value) : PyObject_Str(value);
    PyObject *text = made == NULL ? NULL : PyUnicode_FromObject(made);
    Py_XDECREF(made);
    hash = 0;
    if (text == NULL)
        *failed = -1;
    else
        hash = text_hash(secret, text, failed);
    Py_XDECREF(text);
    return hash;
}

/* Keys of several attributes combine the hashes of the values in order. 0 means "no key". */
static inline u64
key_step(u64 so_far, u64 hash)
{
    return mixed(ROTL(so_far, 17) + hash);
}

static inline u64
key_end(const Secret *secret, u64 so_far)
{
    so_far &= secret->mask;
    return so_far ? so_far : 1;
}

#endif

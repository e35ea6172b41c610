/* Requests of Envoy's Rate Limit Service, from bytes to bytes: the usual ones. For all others it
   answers nothing, and sidecar/service.py does. The messages are those of sidecar/rls.proto. */
#ifndef RATECTL_RLS_H
#define RATECTL_RLS_H

#include "check.h"

#define MOST_RLS_ENTRIES 32
#define MOST_RLS_DESCRIPTORS 8

enum { NODE_SCOPE, NODE_UNIT, NODE_BELOW, NODE_IS_END };            /* a node of a domain's plan */
enum { PLAN_ROOT, PLAN_NAMES, PLAN_PASSES, PLAN_REPLACES };         /* a domain's plan */

typedef struct { const unsigned char *at, *end; } Bytes;

typedef struct {
    int first, entries, own_hits; /* own_hits: the descriptor names its hits */
    u64 hits;
} RlsDescriptor;

typedef struct {
    Bytes domain, keys[MOST_RLS_ENTRIES], values[MOST_RLS_ENTRIES];
    RlsDescriptor descriptors[MOST_RLS_DESCRIPTORS];
    int entries, count; /* of all descriptors, and of descriptors */
} RlsRequest;

/* A number of so many bytes at most. 0 if there is none. */
static inline int
rls_varint(Bytes *in, u64 *value, int most)
{
    if (likely(in->at < in->end && *in->at < 0x80)) {
        *value = *in->at++;
        return 1;
    }
    *value = 0;
    for (int shift = 0; shift < 7 * most && in->at < in->end; shift += 7) {
        unsigned char byte = *in->at++;
        *value |= (u64)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return 1;
    }
    return 0;
}

/* The next field: a number, or bytes. 0 for anything else. */
static inline int
rls_field(Bytes *in, int *field, u64 *number, Bytes *content)
{
    u64 tag;
    if (!rls_varint(in, &tag, 5) || tag >> 3 == 0 || tag >> 3 > 15)
        return 0;
    *field = (int)(tag >> 3);
    *content = (Bytes){NULL, NULL};
    if (!rls_varint(in, number, (tag & 7) == 2 ? 5 : 9))
        return 0;
    if ((tag & 7) == 0)
        return 1;
    if ((tag & 7) != 2 || *number > (u64)(in->end - in->at))
        return 0;
    *content = (Bytes){in->at, in->at + *number};
    in->at += *number;
    return 1;
}

static int
rls_entry(Bytes in, RlsRequest *r)
{
    int field;
    u64 number;
    Bytes content, *key = &r->keys[r->entries], *value = &r->values[r->entries];
    if (r->entries == MOST_RLS_ENTRIES)
        return 0;
    *key = *value = (Bytes){in.at, in.at};
    r->entries++;
    while (in.at < in.end) {
        if (!rls_field(&in, &field, &number, &content) || content.at == NULL || field > 2)
            return 0;
        *(field == 1 ? key : value) = content;
    }
    return 1;
}

static int
rls_descriptor(Bytes in, RlsRequest *r)
{
    int field;
    u64 number;
    Bytes content, none;
    if (r->count == MOST_RLS_DESCRIPTORS)
        return 0;
    RlsDescriptor *d = &r->descriptors[r->count++];
    *d = (RlsDescriptor){.first = r->entries};
    while (in.at < in.end) {
        if (!rls_field(&in, &field, &number, &content) || content.at == NULL)
            return 0;
        if (field == 1) {
            if (!rls_entry(content, r))
                return 0;
            d->entries++;
        } else if (field == 3 && !d->own_hits) {
            d->own_hits = 1;
            if (content.at < content.end &&
                (!rls_field(&content, &field, &d->hits, &none) || field != 1 || none.at != NULL ||
                 content.at < content.end))
                return 0;
        } else {
            return 0;
        }
    }
    return 1;
}

/* 0: Python has to read it. */
static int
rls_read(Bytes in, RlsRequest *r)
{
    int field;
    u64 number, hits = 0;
    Bytes content;
    r->entries = r->count = 0;
    r->domain = (Bytes){NULL, NULL};
    while (in.at < in.end) {
        if (!rls_field(&in, &field, &number, &content))
            return 0;
        if (field == 1 && content.at != NULL)
            r->domain = content;
        else if (field == 2 && content.at != NULL) {
            if (!rls_descriptor(content, r))
                return 0;
        } else if (field == 3 && content.at == NULL)
            hits = (uint32_t)number;
        else
            return 0;
    }
    for (RlsDescriptor *d = r->descriptors; d < r->descriptors + r->count; d++) {
        if (!d->own_hits)
            d->hits = hits ? hits : 1;
        if (d->hits > (u64)MOST_COUNT)
            return 0;
    }
    return r->count && r->domain.at < r->domain.end;
}

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

/* Writing --------------------------------------------------------------------------------------- */

static inline unsigned char *
rls_put(unsigned char *at, u64 value)
{
    for (; value > 0x7f; value >>= 7)
        *at++ = (unsigned char)(value & 0x7f) | 0x80;
    *at++ = (unsigned char)value;
    return at;
}

static inline unsigned char *
rls_copy(unsigned char *at, const void *from, size_t size)
{
    memcpy(at, from, size);
    return at + size;
}

/* A number in decimal digits. */
static inline unsigned char *
rls_digits(unsigned char *at, u64 value)
{
    unsigned char digits[20], *first = digits + sizeof digits;
    do
        *--first = (unsigned char)('0' + value % 10);
    while (value /= 10);
    return rls_copy(at, first, (size_t)(digits + sizeof digits - first));
}

/* What an answer says of the decisive limit: its message, the header with the policies, and its name
   in the other header. Borrowed. NULL: Python has to answer, or an error. */
static PyObject *
rls_told(Core *core, Decision *d, PyObject *scope, PyObject *attributes, PyObject *tell)
{
    Selection *s = d->selection;
    if (s == NULL || d->decisive < 0 || d->rule == NULL || s->swaps != core->swaps)
        return NULL;
    if (s->told == NULL && (s->told = PyMem_Calloc((size_t)s->count, sizeof *s->told)) == NULL)
        return NULL;
    if (s->told[d->decisive] == NULL) {
        PyObject *told = PyObject_CallFunctionObjArgs(tell, d, scope, attributes, NULL);
        PyObject *before = s->told[d->decisive]; /* Python may have decided another request */
        if (told != NULL && !PyTuple_Check(told))
            Py_CLEAR(told);
        s->told[d->decisive] = told;
        Py_XDECREF(before);
    }
    return s->told[d->decisive];
}

/* What an answer says of one descriptor that was allowed. */
typedef struct {
    PyObject *parts[3]; /* of what `rls_told` returns */
    size_t sizes[3], tail_size;
    unsigned char tail[48]; /* the end of its status: what is left, and when it is full again */
    i64 left, reset;
    double share; /* of the capacity that is left */
} RlsStatus;

/* -1: an error. */
static int
rls_status(const Decision *d, PyObject *told, RlsStatus *s)
{
    for (int i = 0; i < 3; i++) {
        s->parts[i] = PyTuple_GetItem(told, i);
        Py_ssize_t size = s->parts[i] == NULL ? -1 : PyBytes_Size(s->parts[i]);
        if (size < 0)
            return -1;
        s->sizes[i] = (size_t)size;
    }
    s->left = d->rule->kind == TOKENS ? tokens_left(d->rule, level_left(d))
                                      : d->left.counts.remaining;
    s->reset = reset_of_decision(d);
    s->share = d->rule->most ? (double)s->left / (double)d->rule->most : 2;
    unsigned char *end = s->tail, span[24], *span_end = span;
    if (s->left > 0)
        *end++ = 0x18, end = rls_put(end, s->left > UINT32_MAX ? UINT32_MAX : (u64)s->left);
    if (s->reset >= 0) {
        if (s->reset >= 1000000000)
            *span_end++ = 0x08, span_end = rls_put(span_end, (u64)s->reset / 1000000000);
        if (s->reset % 1000000000)
            *span_end++ = 0x10, span_end = rls_put(span_end, (u64)s->reset % 1000000000);
        *end++ = 0x22;
        end = rls_put(end, (u64)(span_end - span));
        end = rls_copy(end, span, (size_t)(span_end - span));
    }
    s->tail_size = (size_t)(end - s->tail);
    return 0;
}

/* The header with what is left of a limit: at most 96 bytes and its name. */
static unsigned char *
rls_state(unsigned char *at, const RlsStatus *s)
{
    unsigned char state[64], *end = rls_digits(rls_copy(state, "\";r=", 4), (u64)s->left);
    if (s->reset >= 0)
        end = rls_digits(rls_copy(end, ";t=", 3),
                         (u64)(s->reset / 1000000000 + !!(s->reset % 1000000000)));
    size_t size = (size_t)(end - state), value = 1 + s->sizes[2] + size;
    unsigned char head[24], *head_end = rls_copy(head, "\x0a\x09ratelimit\x12", 12);
    head_end = rls_put(head_end, value);
    *at++ = 0x1a;
    at = rls_put(at, (size_t)(head_end - head) + value);
    at = rls_copy(at, head, (size_t)(head_end - head));
    *at++ = '"';
    at = rls_copy(at, PyBytes_AsString(s->parts[2]), s->sizes[2]);
    return rls_copy(at, state, size);
}

/* The answer to a request whose descriptors were all allowed; its headers are about the limit with
   the smallest share left. */
static PyObject *
rls_allowed(const RlsStatus *all, int count)
{
    const RlsStatus *told = all;
    size_t most = 8;
    for (const RlsStatus *s = all; s < all + count; s++) {
        most += 16 + s->sizes[0] + s->tail_size;
        if (s->share < told->share)
            told = s;
    }
    most += told->sizes[1] + 96 + told->sizes[2];
    unsigned char usual[1024], *begin = most <= sizeof usual ? usual : PyMem_Malloc(most);
    if (begin == NULL)
        return PyErr_NoMemory();
    unsigned char *at = rls_copy(begin, "\x08\x01", 2);
    for (const RlsStatus *s = all; s < all + count; s++) {
        *at++ = 0x12;
        at = rls_put(at, 2 + s->sizes[0] + s->tail_size);
        at = rls_copy(at, "\x08\x01", 2);
        at = rls_copy(at, PyBytes_AsString(s->parts[0]), s->sizes[0]);
        at = rls_copy(at, s->tail, s->tail_size);
    }
    at = rls_copy(at, PyBytes_AsString(told->parts[1]), told->sizes[1]);
    if (told->sizes[2])
        at = rls_state(at, told);
    PyObject *answer = PyBytes_FromStringAndSize((char *)begin, at - begin);
    if (begin != usual)
        PyMem_Free(begin);
    return answer;
}

/* A question to the engine, and its decision. */
typedef struct { PyObject *scope, *attributes, *cost, *decision, *told; } RlsAsked;

/* The answer's bytes. NULL: Python has to write it, or an error. */
static PyObject *
rls_answer(Core *core, RlsAsked *all, int count, PyObject *tell)
{
    RlsStatus statuses[MOST_RLS_DESCRIPTORS];
    for (int i = 0; i < count; i++) {
        Decision *d = (Decision *)all[i].decision;
        if (TYPE(all[i].decision) != decision_type || d->reason != OK)
            return NULL;
        all[i].told = Py_XNewRef(rls_told(core, d, all[i].scope, all[i].attributes, tell));
        if (all[i].told == NULL || rls_status(d, all[i].told, &statuses[i]) < 0)
            return NULL;
    }
    return rls_allowed(statuses, count);
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

/* rls(data, plans, tell) -> the answer's bytes; None: Python has to answer; or, after it has
   decided all descriptors, a list with (decision, scope, attributes, cost) of each: Python has to
   write the answer. `plans` are those of the domains that are known (see sidecar/mapping.py);
   `tell`: see `rls_told`. */
static PyObject *
core_rls(Core *core, PyObject *const *args, Py_ssize_t nargs)
{
    char *data;
    Py_ssize_t size;
    RlsRequest r;
    if (nargs != 3 || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "rls() takes bytes, a dict and a function");
        return NULL;
    }
    if (PyBytes_AsStringAndSize(args[0], &data, &size) < 0)
        return NULL;
    Bytes in = {(unsigned char *)data, (unsigned char *)data + size};
    if (!rls_read(in, &r))
        Py_RETURN_NONE;
    PyObject *plan = Py_XNewRef(rls_known(args[1], r.domain)), *answer = NULL;
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
    if (made && (answer = rls_answer(core, asked, r.count, args[2])) == NULL && !PyErr_Occurred())
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

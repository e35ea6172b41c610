/* A witness of crashes: while a process tries a generation, a fatal signal leaves its number in a
   file. Nobody could tell a crash from a SIGKILL afterwards.

   The handler calls functions that are async-signal-safe only (getpid, write, sigaction, raise),
   takes no memory, and is silent in forked children. It then puts the former action back and hands
   the signal over to it: core dumps, faulthandler and handlers of the host work as without it. */
#ifndef RATECTL_WITNESS_H
#define RATECTL_WITNESS_H

#include "base.h"
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#define WITNESSES 64
#define FATAL 5
#define LIVES 0 /* in place of a signal's number: what came before did not end the process */

/* A file to write to, and the process that opened it; 0 for a free place. */
typedef struct {
    atomic_int process, file;
} Witness;

static Witness witnesses[WITNESSES];

/* A signal, the action for it before ours, and whether ours was placed and not taken back. It stays
   placed after a signal came, or where the host placed its own on top of it, which may call ours:
   to place it again would put it above and below that one. */
typedef struct {
    int number, placed;
    struct sigaction former;
} FatalSignal;

static FatalSignal fatal[FATAL] = {
    {.number = SIGSEGV}, {.number = SIGBUS}, {.number = SIGILL}, {.number = SIGFPE},
    {.number = SIGABRT},
};

/* A signal that another process sent is no crash of this one (a supervisor may have lost patience). */
static int
is_sent_by_another(const siginfo_t *info)
{
#if defined(__APPLE__)
    return info->si_pid != 0 && info->si_pid != getpid(); /* faults have no sender there */
#else
    return info->si_code <= 0 && info->si_pid != getpid();
#endif
}

static void
testify(int number)
{
    char line[3] = {(char)('0' + number / 10), (char)('0' + number % 10), '\n'};
    int self = (int)getpid();
    for (int i = 0; i < WITNESSES; i++)
        if (witnesses[i].process == self && write(witnesses[i].file, line, sizeof line) < 0)
            continue; /* a full disk, say: nothing can be done here */
}

typedef void (*Handler)(int, siginfo_t *, void *);

/* The current handler of a signal. (Handlers of fewer arguments have the same place.) */
static Handler
handler_of(int number)
{
    struct sigaction now = {.sa_flags = 0};
    sigaction(number, NULL, &now);
    return now.sa_sigaction;
}

static int
is_function(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) ||
           (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
}

/* Do what would have been done without this handler. */
static void
hand_over(const struct sigaction *former, int number, siginfo_t *info, void *context)
{
    if (former->sa_flags & SA_SIGINFO)
        former->sa_sigaction(number, info, context);
    else if (is_function(former))
        former->sa_handler(number);
    else if (former->sa_handler == SIG_DFL) {
        sigaction(number, former, NULL); /* also where a handler above has called this one */
        raise(number);                   /* blocked until this handler returns */
    }
}

/* A host may mend a fault and go on, as virtual machines do: then its handler returns and stays in
   place. (Handlers that only report put another action in their place first. abort() never returns,
   whatever the handler does.) */
static void
on_fatal_signal(int number, siginfo_t *info, void *context)
{
    int kept = errno, i = 0, crashed = !is_sent_by_another(info);
    while (fatal[i].number != number)
        i++;
    if (crashed)
        testify(number);
    if (handler_of(number) == on_fatal_signal)
        sigaction(number, &fatal[i].former, NULL);
    Handler next = handler_of(number);
    hand_over(&fatal[i].former, number, info, context);
    if (crashed && number != SIGABRT && is_function(&fatal[i].former) && handler_of(number) == next)
        testify(LIVES);
    errno = kept;
}

static void
place_handlers(void)
{
    struct sigaction ours = {.sa_sigaction = on_fatal_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&ours.sa_mask);
    for (int i = 0; i < FATAL; i++)
        if (!fatal[i].placed)
            fatal[i].placed = sigaction(fatal[i].number, &ours, &fatal[i].former) == 0;
}

static void
take_handlers_back(void)
{
    for (int i = 0; i < FATAL; i++)
        if (fatal[i].placed && handler_of(fatal[i].number) == on_fatal_signal)
            fatal[i].placed = sigaction(fatal[i].number, &fatal[i].former, NULL) != 0;
}

/* witness(file): False where too many are there already. */
static PyObject *
witness_call(PyObject *self, PyObject *argument)
{
    int file = (int)PyLong_AsLong(argument), process = (int)getpid();
    (void)self;
    if (file == -1 && PyErr_Occurred())
        return NULL;
    for (int i = 0; i < WITNESSES; i++)
        if (witnesses[i].process != process) { /* free, or its process has forked this one */
            witnesses[i].process = 0;
            witnesses[i].file = file;
            witnesses[i].process = process;
            place_handlers();
            Py_RETURN_TRUE;
        }
    Py_RETURN_FALSE;
}

/* dismiss(file): no witness any more. Close the file afterwards. */
static PyObject *
dismiss_call(PyObject *self, PyObject *argument)
{
    int file = (int)PyLong_AsLong(argument), process = (int)getpid(), left = 0;
    (void)self;
    if (file == -1 && PyErr_Occurred())
        return NULL;
    for (int i = 0; i < WITNESSES; i++)
        if (witnesses[i].process == process) {
            if (witnesses[i].file == file)
                witnesses[i].process = 0;
            else
                left = 1;
        }
    if (!left)
        take_handlers_back();
    Py_RETURN_NONE;
}

#endif

/* A witness of crashes: while a process tries a generation, a fatal signal writes its number to a
   file. Without it, a crash could not be told from a SIGKILL afterwards.

   The handler calls async-signal-safe functions only (getpid, write, sigaction, raise), takes no
   memory, and does nothing in forked children. It then restores the former action and passes the
   signal to it: core dumps, faulthandler and handlers of the host work as without it. */
#ifndef RATECTL_WITNESS_H
#define RATECTL_WITNESS_H

#include "base.h"
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#define WITNESSES 64
#define FATAL 5
#define LIVES 0 /* written after a signal's number: that signal did not end the process */

/* A file to write to, and the process that opened it; 0 for a free place. */
typedef struct {
    atomic_int process, file;
} Witness;

static Witness witnesses[WITNESSES];

/* A signal, the action before ours, and 1 in `placed` while ours is in place. `placed` stays 1
   after a signal came, and if the host placed its own handler on top, which may call ours: placing
   ours again would put it above and below that one. */
typedef struct {
    int number, placed;
    struct sigaction former;
} FatalSignal;

static FatalSignal fatal[FATAL] = {
    {.number = SIGSEGV}, {.number = SIGBUS}, {.number = SIGILL}, {.number = SIGFPE},
    {.number = SIGABRT},
};

/* True if another process sent the signal: that is no crash (a supervisor may have sent it). */
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
            continue; /* for example a full disk: nothing can be done here */
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

/* Do what the former action would have done. */
static void
hand_over(const struct sigaction *former, int number, siginfo_t *info, void *context)
{
    if (former->sa_flags & SA_SIGINFO)
        former->sa_sigaction(number, info, context);
    else if (is_function(former))
        former->sa_handler(number);
    else if (former->sa_handler == SIG_DFL) {
        sigaction(number, former, NULL); /* also if a handler above has called this one */
        raise(number);                   /* blocked until this handler returns */
    }
}

/* A host may repair a fault and continue, as virtual machines do: then its handler returns and
   stays in place. (Handlers that only report restore another action first. abort() never returns,
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

/* witness(file): add a witness. False: there are too many already. */
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

/* dismiss(file): remove a witness. The caller closes the file afterwards. */
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

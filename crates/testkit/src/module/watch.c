/* Writes down what a program asks of the C library: `env NAME`, `write PATH`, one line each. Loaded in front of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int notes = -1;
typedef char *(*getenv_fn)(const char *);
typedef int (*open_fn)(const char *, int, ...);
typedef int (*openat_fn)(int, const char *, int, ...);
typedef int (*mkdir_fn)(const char *, mode_t);

static void note(const char *what, const char *subject)
{
    char line[1024];
    int length;
    if (notes < 0 || subject == NULL)
        return;
    length = snprintf(line, sizeof line, "%s %s\n", what, subject);
    if (length > (int)sizeof line - 1)
        length = sizeof line - 1;
    /* One call, so that lines of several threads do not mix. */
    if (length > 0 && write(notes, line, (size_t)length) < 0)
        return;
}

static void note_open(const char *path, int flags)
{
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC | O_TMPFILE)) != 0;
    if ((flags & O_TMPFILE) != O_TMPFILE && (flags & O_DIRECTORY))
        writes = 0;
    if (writes && path != NULL && strncmp(path, "/dev/", 5) != 0 && strncmp(path, "/proc/", 6) != 0)
        note("write", path);
}

__attribute__((constructor)) static void begin(void)
{
    getenv_fn real = (getenv_fn)dlsym(RTLD_NEXT, "getenv");
    open_fn real_open = (open_fn)dlsym(RTLD_NEXT, "open");
    const char *path = real("MODULE_CHECKS_NOTES");
    if (path != NULL)
        notes = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

char *getenv(const char *name)
{
    static getenv_fn real;
    if (real == NULL)
        real = (getenv_fn)dlsym(RTLD_NEXT, "getenv");
    note("env", name);
    return real(name);
}

#define MODE(flags)                                     \
    mode_t mode = 0;                                    \
    if ((flags) & (O_CREAT | O_TMPFILE)) {              \
        va_list rest;                                   \
        va_start(rest, flags);                          \
        mode = (mode_t)va_arg(rest, int);               \
        va_end(rest);                                   \
    }

#define OPEN(NAME)                                      \
    int NAME(const char *path, int flags, ...)          \
    {                                                   \
        static open_fn real;                            \
        MODE(flags)                                     \
        if (real == NULL)                               \
            real = (open_fn)dlsym(RTLD_NEXT, #NAME);    \
        note_open(path, flags);                         \
        return real(path, flags, mode);                 \
    }

#define OPENAT(NAME)                                            \
    int NAME(int directory, const char *path, int flags, ...)   \
    {                                                           \
        static openat_fn real;                                  \
        MODE(flags)                                             \
        if (real == NULL)                                       \
            real = (openat_fn)dlsym(RTLD_NEXT, #NAME);          \
        note_open(path, flags);                                 \
        return real(directory, path, flags, mode);              \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int mkdir(const char *path, mode_t mode)
{
    static mkdir_fn real;
    if (real == NULL)
        real = (mkdir_fn)dlsym(RTLD_NEXT, "mkdir");
    note("write", path);
    return real(path, mode);
}

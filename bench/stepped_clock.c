/* LD_PRELOAD: the clock of one process is as many seconds ahead as the file CLOCK_FILE says. libfaketime breaks Python's sleep. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME) {
        long ahead_s = 0;
        FILE *file = fopen(getenv("CLOCK_FILE"), "r");
        if (file) {
            if (fscanf(file, "%ld", &ahead_s) != 1) ahead_s = 0;
            fclose(file);
        }
        now->tv_sec += ahead_s;
    }
    return result;
}

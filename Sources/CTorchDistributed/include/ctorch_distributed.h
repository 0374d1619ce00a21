// A C interface over libtorch's engine for several processes, c10d with Gloo; see ctorch.h for the rules.
#ifndef CTORCH_DISTRIBUTED_H
#define CTORCH_DISTRIBUTED_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ctd_group_s *ctd_group;

/// The calling thread's last error.
const char *ctd_last_error(void);

/// Meets the other processes at `host`:`port`; NULL when it failed. The first rank opens the port, unless
/// `is_client`: then the launcher has opened it. `prefix` keeps what is said there apart from others'.
/// `interface` names the network interface to use; where it is NULL, `is_local` says that `host` is this
/// machine's own name for itself, else the interface of the machine's name is taken. `join_seconds` is how long
/// to wait for the others, `seconds` how long one operation may take.
ctd_group ctd_join(const char *host, int port, int rank, int size, bool is_client, const char *prefix, const char *interface,
                   bool is_local, double join_seconds, double seconds);
void ctd_free(ctd_group group);

/// Replaces the n numbers of every process by their sum.
int ctd_sum(ctd_group group, float *values, long n);

#ifdef __cplusplus
}
#endif
#endif

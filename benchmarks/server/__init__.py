"""The counterpart of the benchmarks: one process, one thread, one epoll; answers are encoded before they are asked for."""

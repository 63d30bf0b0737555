"""The last import of the server of processes: what is there by now is never garbage, and the collector of each program
that the server forks would otherwise walk it, which copies its pages."""

import gc

gc.collect()
gc.freeze()

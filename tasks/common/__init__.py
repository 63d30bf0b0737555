"""The frame around every task: building from a configuration, the run's record, loggers, callbacks, floors, figures."""

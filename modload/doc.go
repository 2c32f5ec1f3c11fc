// Package modload brings kernel modules into the kernel, each exactly once.
//
// Whoever wants a module (a uevent, the coldplug walk, a command line, a
// request of the kernel itself) asks one [Scheduler]. The Scheduler resolves
// the request through the module index, enters every module that it needs
// into one table, and hands a module to its [LoadFunc] when all its hard
// dependencies are live. A request for a module that is already in the table
// joins the record that is there.
//
// The production LoadFunc is [Kernel.Load], which holds the only
// finit_module(2) call of the whole program.
//
// # States
//
// A record moves along these arrows and no others:
//
//	waiting ──> queued ──> inserting ──> live
//	   │           │           ├───────> refused ──> queued (retry, see Request)
//	   └───────────┴───────────┴───────> failed  ──> waiting (only if a refused dependency is retried)
//
// Built-in modules and modules that were in the kernel before start out as
// builtin and live. Refused means that the module's init function said no,
// which is how a driver answers that the hardware is not for it. Failed is
// everything else, a failed dependency included: such a module is never tried
// again. Where the loads that run beside it may be to blame, as for a lack of
// memory, an inserting module goes back to waiting until they have ended, once
// (see Result).
//
// # Order
//
// Hard dependencies have to be live before their dependant is inserted.
// Modules named by "softdep pre:" have to have ended, however they ended;
// those named by "post:" are requested once the module is live. A soft
// dependency that would close a circle is dropped, so the graph of waiting
// modules never has one.
package modload

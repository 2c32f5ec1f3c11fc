// Package service starts, watches and ends the programs of an image that stays: its services.
//
// A [Manager] is a state machine that one goroutine drives, that of the guard, which is the only one that waits for children.
// Everything that it does to the world goes through a [System]. It has no goroutine and takes no lock; what others find out,
// such as that a service has said that it is ready, comes to it as work on a channel.
//
// # The states of a service
//
//	          after is met         ready
//	waiting ──────────────> starting ──────> up
//	   ^                       │             │
//	   │                       v             v
//	pausing <─────────────── stopping ──> done, failed, stopped
//
// starting becomes up when a daemon is ready. stopping is from the stop signal, or the end of the main process, until nothing of
// it is left; pausing until a start that the restart policy asks for. done is what has ended well by itself: a oneshot, or a
// daemon that had nothing to do. failed has ended otherwise, and stopped what was told to.
//
// A service is started when everything that it is after is up or done. That counts for the first start and for one by hand: what
// happens to the others later does not touch it. The one exception is base, which may have failed. When the machine ends, a
// service is told to end when nothing that is after it runs any more.
//
// A new process is started only when nothing of the one before is left: what the main process leaves behind is killed first.
//
// # The file
//
// The image builder writes [File], from the [[service]] tables of hapax.toml, and [Parse] reads it. It is made of lines
// "KEY VALUE"; in a value \n is a line end and \\ a backslash, everything else stands for itself. The first line is [Header].
// A line "service NAME" begins a service; the lines up to the next one are about it, each key once but for those of lists:
//
//	exec PATH            of the program in the image
//	arg TEXT             list: arguments behind argv[0], which is PATH
//	env KEY=VALUE        list: beside PATH, which may be among them
//	uid N, gid N         default 0
//	group N              list: supplementary groups
//	dir PATH             working directory; default /
//	type daemon|oneshot  default daemon
//	after NAME           list: services, or one of the targets of the image: base, settled
//	ready started        default: as soon as the program has been started
//	      fd:N           it has written a line to descriptor N, or closed it after a byte (as for s6 and dinit)
//	      file:PATH      there is a file
//	      socket:PATH    a unix socket of that name takes connections
//	      tcp:PORT       somebody listens at that port
//	restart no|on-failure|always   default always for a daemon, no for a oneshot
//	restart-delay TIME   between an end and the next start; default 100ms
//	brake N TIME PAUSE   after N starts within TIME the next one comes after PAUSE; default "10 2m 5m", "none" is without
//	start-timeout TIME   to become ready; default 90s for a daemon, none for a oneshot
//	stop-timeout TIME    from the stop signal to SIGKILL; default 10s
//	stop-signal NAME     default SIGTERM
//	tty PATH             terminal to control and for its standard files; "console" is the one of the kernel
//	memory-max BYTES, pids-max N, cpu-weight N, cpu-max MICROSECONDS (of each 100 ms)   of cgroup v2
//	oom-score N          oom_score_adj, -1000 to 1000; default 0
//	log kmsg|console|none|PATH     where its output goes; default kmsg; to a file below PATH
//	log-size BYTES       of a file, which then becomes PATH.1; default 1 MiB
//
// A TIME is what time.ParseDuration takes.
package service

// File is where an image lists its services.
const File = "/etc/hapax/services"

// Header is the first line of it.
const Header = "hapax-services 1"

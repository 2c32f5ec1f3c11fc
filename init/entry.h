// What the entries of all architectures have in common: the numbers that Linux has
// given to all of them, what they send, and what they compare with.

#include "textflag.h"

#define AF_UNIX        1
#define SOCK_SEQPACKET 5
#define MSG_NOSIGNAL   0x4000

// An answer has at most 8.3 KiB: two long fields, a name and a text.
#define BUFFER 0x4000

DATA modprobe<>(SB)/8, $"modprobe"
GLOBL modprobe<>(SB), RODATA|NOPTR, $8
DATA variable<>(SB)/8, $"MODPROBE"
GLOBL variable<>(SB), RODATA|NOPTR, $8

// struct sockaddr_un: AF_UNIX, and control.Path.
DATA address<>+0(SB)/2, $AF_UNIX
DATA address<>+2(SB)/19, $"/run/hapax/control\x00"
GLOBL address<>(SB), RODATA|NOPTR, $21

// A request without the name at its end.
DATA request<>(SB)/19, $"hapax/1\x00load\x00query="
GLOBL request<>(SB), RODATA|NOPTR, $19

DATA end<>(SB)/4, $"end\x00"
GLOBL end<>(SB), RODATA|NOPTR, $4
DATA module<>(SB)/8, $"\x00module\x00"
GLOBL module<>(SB), RODATA|NOPTR, $8
DATA blacklisted<>(SB)/8, $"blacklis"
GLOBL blacklisted<>(SB), RODATA|NOPTR, $8
DATA busy<>(SB)/4, $"busy"
GLOBL busy<>(SB), RODATA|NOPTR, $4

#include "entry.h"

// hapax_start is what entry_amd64.s describes.
//
//	R19  the stack as the kernel has laid it out: argc, argv, 0, envp, 0
//	R20  the socket
//	R21  the exit code so far

#define SYS_close      57
#define SYS_read       63
#define SYS_exit_group 94
#define SYS_prctl      167
#define SYS_socket     198
#define SYS_connect    203
#define SYS_sendmsg    211

#define PR_SET_THP_DISABLE 41

TEXT hapax_start(SB),NOSPLIT|NOFRAME,$0
	MOVD RSP, R19
	MOVD (R19), R0
	CMP  $4, R0
	BNE  runtime

	// Is the last part of argv[0] modprobe?
	MOVD    8(R19), R1
	MOVD    R1, R2
part:
	MOVBU.P 1(R1), R0
	CMP     $'/', R0
	CSEL    EQ, R1, R2, R2
	CBNZ    R0, part
	SUB     R2, R1
	CMP     $9, R1
	BNE     runtime
	MOVD    (R2), R0
	MOVD    modprobe<>(SB), R1
	CMP     R1, R0
	BNE     runtime

	// Is argv[1] -q, and argv[2] --?
	MOVD  16(R19), R1
	MOVHU (R1), R0
	MOVD  $('-' | 'q'<<8), R2
	CMP   R2, R0
	BNE   runtime
	MOVBU 2(R1), R0
	CBNZ  R0, runtime
	MOVD  24(R19), R1
	MOVHU (R1), R0
	MOVD  $('-' | '-'<<8), R2
	CMP   R2, R0
	BNE   runtime
	MOVBU 2(R1), R0
	CBNZ  R0, runtime

	// Is there a variable that changes the request?
	MOVD   variable<>(SB), R2
	ADD    $48, R19, R3
environment:
	MOVD.P 8(R3), R1
	CBZ    R1, name
	MOVD   (R1), R0
	CMP    R2, R0
	BNE    environment
	B      runtime

	// R2 is NAME, and R3 its length, which is not 0.
name:
	MOVD    32(R19), R2
	MOVD    R2, R1
length:
	MOVBU.P 1(R1), R0
	CBNZ    R0, length
	SUB     R2, R1, R3
	SUBS    $1, R3
	BEQ     runtime

	// The room for answers holds the request first: a struct msghdr, and behind it
	// the two struct iovec of the packet. The linker would take a SUB from RSP for
	// the frame of a function that runs on the stack of a goroutine.
	SUB  $(BUFFER+16), R19, R0
	MOVD R0, RSP
	ADD  $56, RSP, R0
	MOVD $2, R1
	STP  (ZR, ZR), (RSP)   // msg_name, msg_namelen
	STP  (R0, R1), 16(RSP) // msg_iov, msg_iovlen
	STP  (ZR, ZR), 32(RSP) // msg_control, msg_controllen
	MOVD ZR, 48(RSP)       // msg_flags
	MOVD $request<>(SB), R0
	MOVD $19, R1
	STP  (R0, R1), 56(RSP)
	STP  (R2, R3), 72(RSP)

	MOVD $SYS_socket, R8
	MOVD $AF_UNIX, R0
	MOVD $SOCK_SEQPACKET, R1
	MOVD $0, R2
	SVC
	TBNZ $63, R0, runtime
	MOVD R0, R20

	MOVD $SYS_connect, R8
	MOVD R20, R0
	MOVD $address<>(SB), R1
	MOVD $21, R2
	SVC
	CBNZ R0, close

	MOVD $SYS_sendmsg, R8
	MOVD R20, R0
	MOVD RSP, R1
	MOVD $MSG_NOSIGNAL, R2
	SVC
	TBNZ $63, R0, close

	// The shortest answer is the end packet of success. NULs are put behind it,
	// for one that has not as many of them as it should have.
	MOVD $0, R21
receive:
	MOVD $SYS_read, R8
	MOVD R20, R0
	MOVD RSP, R1
	MOVD $BUFFER, R2
	SVC
	CMP  $7, R0
	BLT  close
	ADD  R0, R1, R4
	MOVD ZR, (R4)

	// R1 is the field that says what went wrong, the second one of an end packet
	// and the fifth one of a module packet. It has to be there.
	MOVD    $1, R3
	MOVWU   (R1), R0
	MOVWU   end<>(SB), R2
	CMPW    R2, R0
	BEQ     field
	MOVD    $4, R3
	MOVD    (R1), R0
	LSL     $8, R0 // what follows the 7 bytes falls out
	MOVD    module<>(SB), R2
	CMP     R2, R0
	BNE     close
field:
	MOVBU.P 1(R1), R0
	CBNZ    R0, field
	SUB     $1, R3
	CBNZ    R3, field
	CMP     R4, R1
	BHS     close
	MOVBU   (R1), R3
	MOVBU   3(RSP), R0
	CBZ     R0, ended

	// The last module decides. One that is left out is no failure.
	MOVD $0, R21
	CBZ  R3, receive
	MOVD (R1), R0
	MOVD blacklisted<>(SB), R2
	CMP  R2, R0
	BEQ  receive
	MOVD $1, R21
	B    receive

	// An engine that is busy is asked again, which the Go program does.
ended:
	CBZ   R3, exit
	MOVWU (R1), R0
	MOVWU busy<>(SB), R2
	CMPW  R2, R0
	BEQ   close
	MOVD  $1, R21
exit:
	MOVD $SYS_exit_group, R8
	MOVD R21, R0
	SVC

close:
	MOVD $SYS_close, R8
	MOVD R20, R0
	SVC
runtime:
	MOVD R19, RSP
	MOVD $SYS_prctl, R8 // no huge pages: see package slim
	MOVD $PR_SET_THP_DISABLE, R0
	MOVD $1, R1
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	SVC
	JMP  _rt0_arm64_linux(SB)

#include "entry.h"

// hapax_start is where the program begins (-E, in the Makefile), before the Go
// runtime does. Each request_module(9) of the kernel starts
//
//	modprobe -q -- NAME
//
// and waits for it, and to start the runtime would be nearly all of that time.
// So this asks the engine without it, as init/internal/control describes: the
// request goes out, and the exit code is the one that package applet has for the
// answer. It uses the stack and nothing else.
//
// Whatever is not as usual, here or at the engine, is left to the Go program:
// the runtime gets the stack as the kernel has laid it out, and begins anew. It
// is no harm to ask twice.
//
//	R12  the stack as the kernel has laid it out: argc, argv, 0, envp, 0
//	R13  the socket
//	R14  the exit code so far

#define SYS_read       0
#define SYS_close      3
#define SYS_socket     41
#define SYS_connect    42
#define SYS_sendmsg    46
#define SYS_prctl      157
#define SYS_exit_group 231

#define PR_SET_THP_DISABLE 41

TEXT hapax_start(SB),NOSPLIT|NOFRAME,$0
	MOVQ SP, R12
	CMPQ (R12), $4
	JNE  runtime

	// Is the last part of argv[0] modprobe?
	MOVQ 8(R12), SI
	MOVQ SI, DI
part:
	MOVBLZX (SI), AX
	INCQ    SI
	CMPL    AX, $'/'
	CMOVQEQ SI, DI
	TESTL   AX, AX
	JNZ     part
	SUBQ    DI, SI
	CMPQ    SI, $9
	JNE     runtime
	MOVQ    modprobe<>(SB), AX
	CMPQ    (DI), AX
	JNE     runtime

	// Is argv[1] -q, and argv[2] --?
	MOVQ 16(R12), SI
	CMPW (SI), $('-' | 'q'<<8)
	JNE  runtime
	CMPB 2(SI), $0
	JNE  runtime
	MOVQ 24(R12), SI
	CMPW (SI), $('-' | '-'<<8)
	JNE  runtime
	CMPB 2(SI), $0
	JNE  runtime

	// MODPROBE_OPTIONS and MODPROBE_MODULE change the request. Above the strings
	// of the environment are that of the program's path and 8 bytes of 0
	// (fs/exec.c), so 8 bytes of each can be read.
	MOVQ  variable<>(SB), AX
	LEAQ  48(R12), BX
environment:
	MOVQ  (BX), SI
	ADDQ  $8, BX
	TESTQ SI, SI
	JZ    name
	CMPQ  (SI), AX
	JNE   environment
	JMP   runtime

	// BX is NAME, and DX its length, which is not 0.
name:
	MOVQ 32(R12), BX
	MOVQ $-1, DX
length:
	INCQ DX
	CMPB (BX)(DX*1), $0
	JNE  length
	TESTQ DX, DX
	JZ   runtime

	// The room for answers holds the request first: a struct msghdr, and behind it
	// the two struct iovec of the packet.
	SUBQ $(BUFFER+8), SP
	LEAQ 56(SP), AX
	MOVQ $0, 0(SP)  // msg_name
	MOVQ $0, 8(SP)  // msg_namelen
	MOVQ AX, 16(SP) // msg_iov
	MOVQ $2, 24(SP) // msg_iovlen
	MOVQ $0, 32(SP) // msg_control
	MOVQ $0, 40(SP) // msg_controllen
	MOVQ $0, 48(SP) // msg_flags
	LEAQ request<>(SB), AX
	MOVQ AX, 56(SP)
	MOVQ $19, 64(SP)
	MOVQ BX, 72(SP)
	MOVQ DX, 80(SP)

	MOVL  $SYS_socket, AX
	MOVL  $AF_UNIX, DI
	MOVL  $SOCK_SEQPACKET, SI
	XORL  DX, DX
	SYSCALL
	TESTQ AX, AX
	JS    runtime
	MOVQ  AX, R13

	MOVL  $SYS_connect, AX
	MOVQ  R13, DI
	LEAQ  address<>(SB), SI
	MOVL  $21, DX
	SYSCALL
	TESTQ AX, AX
	JNZ   close

	MOVL  $SYS_sendmsg, AX
	MOVQ  R13, DI
	MOVQ  SP, SI
	MOVL  $MSG_NOSIGNAL, DX
	SYSCALL
	TESTQ AX, AX
	JS    close

	// The shortest answer is the end packet of success. NULs are put behind it,
	// for one that has not as many of them as it should have.
	XORL R14, R14
receive:
	MOVL $SYS_read, AX
	MOVQ R13, DI
	MOVQ SP, SI
	MOVL $BUFFER, DX
	SYSCALL
	CMPQ AX, $7
	JLT  close
	LEAQ (SP)(AX*1), BX
	MOVQ $0, (BX)

	// SI is the field that says what went wrong, the second one of an end packet
	// and the fifth one of a module packet. It has to be there.
	MOVL $1, CX
	MOVL end<>(SB), AX
	CMPL (SP), AX
	JEQ  field
	MOVL $4, CX
	MOVQ (SP), AX
	SHLQ $8, AX // what follows the 7 bytes falls out
	CMPQ AX, module<>(SB)
	JNE  close
field:
	INCQ SI
	CMPB -1(SI), $0
	JNE  field
	SUBL $1, CX
	JNZ  field
	CMPQ SI, BX
	JAE  close
	CMPB 3(SP), $0
	JEQ  ended

	// The last module decides. One that is left out is no failure.
	XORL R14, R14
	CMPB (SI), $0
	JEQ  receive
	MOVQ blacklisted<>(SB), AX
	CMPQ (SI), AX
	JEQ  receive
	MOVL $1, R14
	JMP  receive

	// An engine that is busy is asked again, which the Go program does.
ended:
	CMPB (SI), $0
	JEQ  exit
	MOVL busy<>(SB), AX
	CMPL (SI), AX
	JEQ  close
	MOVL $1, R14
exit:
	MOVL $SYS_exit_group, AX
	MOVL R14, DI
	SYSCALL

close:
	MOVL $SYS_close, AX
	MOVQ R13, DI
	SYSCALL
runtime:
	MOVQ R12, SP
	MOVL $SYS_prctl, AX // no huge pages: see package slim
	MOVL $PR_SET_THP_DISABLE, DI
	MOVL $1, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	SYSCALL
	JMP  _rt0_amd64_linux(SB)

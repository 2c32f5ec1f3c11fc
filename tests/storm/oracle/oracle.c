/*
 * The oracle of the storm bench: it is told the files of the modules in the order of their dependencies and inserts
 * them one after the other, which is the least that loading them costs. It is C so that no runtime adds to that, and
 * because the loader of hapax is to be the only place in the Go sources that calls finit_module.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { COMPRESSED_FILE = 4 }; /* MODULE_INIT_COMPRESSED_FILE of linux/module.h */

static int is_plain(const char *file)
{
	size_t n = strlen(file);

	return n > 3 && !strcmp(file + n - 3, ".ko");
}

int main(int argc, char **argv)
{
	int failed = 0;

	for (int i = 1; i < argc; i++) {
		int fd = open(argv[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0 || syscall(SYS_finit_module, fd, "", is_plain(argv[i]) ? 0 : COMPRESSED_FILE) < 0) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
			failed = 1;
		}
		close(fd);
	}
	return failed;
}

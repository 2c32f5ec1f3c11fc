/*
 * lookup measures libkmod for the benchmarks of modload/modindex. It reads
 * requests from standard input, one a line, and answers each with one line:
 *
 *	open N			open and close the index N times; the nanoseconds that took
 *	lookup N QUERY		look the query up N times; the nanoseconds
 *	names QUERY		the names of the modules that the query stands for
 *
 * The one argument is a lib/modules/RELEASE folder. No configuration is read.
 */
#include <libkmod.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const no_config[] = { NULL };

static void die(const char *what)
{
	fprintf(stderr, "lookup: %s\n", what);
	exit(1);
}

/* As modprobe does: a context with all five index files mapped. */
static struct kmod_ctx *open_index(const char *dir)
{
	struct kmod_ctx *ctx = kmod_new(dir, no_config);

	if (ctx == NULL || kmod_load_resources(ctx) < 0)
		die("cannot open the index");
	return ctx;
}

static struct kmod_list *look_up(struct kmod_ctx *ctx, const char *query)
{
	struct kmod_list *found = NULL;

	if (kmod_module_new_from_lookup(ctx, query, &found) < 0)
		return NULL; /* brackets that are not balanced */
	return found;
}

static void print_names(struct kmod_ctx *ctx, const char *query)
{
	struct kmod_list *l, *found = look_up(ctx, query);

	kmod_list_foreach(l, found) {
		struct kmod_module *m = kmod_module_get_module(l);
		printf(" %s", kmod_module_get_name(m));
		kmod_module_unref(m);
	}
	printf("\n");
	kmod_module_unref_list(found);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	struct kmod_ctx *ctx;
	char *line = NULL;
	size_t room = 0;
	ssize_t len;

	if (argc != 2)
		die("want a lib/modules/RELEASE folder");
	ctx = open_index(argv[1]);
	while ((len = getline(&line, &room, stdin)) > 0) {
		long long start;
		long i, n;
		char *query;

		if (line[len - 1] == '\n')
			line[len - 1] = '\0';
		if (strncmp(line, "names ", 6) == 0) {
			print_names(ctx, line + 6);
		} else if (strncmp(line, "open ", 5) == 0) {
			n = atol(line + 5);
			start = now();
			for (i = 0; i < n; i++)
				kmod_unref(open_index(argv[1]));
			printf("%lld\n", now() - start);
		} else if (strncmp(line, "lookup ", 7) == 0) {
			n = strtol(line + 7, &query, 10);
			if (*query++ != ' ')
				die("lookup wants a number and a query");
			start = now();
			for (i = 0; i < n; i++)
				kmod_module_unref_list(look_up(ctx, query));
			printf("%lld\n", now() - start);
		} else {
			die("unknown request");
		}
		fflush(stdout);
	}
	free(line);
	kmod_unref(ctx);
	return 0;
}

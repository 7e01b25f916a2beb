/* SPDX-License-Identifier: MIT */
/* Whole programs over a source tree. What they print is part of what was seen; their way to start counts for all alike. */
#include "bench.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Run @argv in b->dir; lines of its output are digested in any order. Dies unless it ends with @code. */
static uint64_t program(struct bench *b, int code, char *const argv[])
{
	char *line = NULL;
	size_t size = 0;
	uint64_t sum = 0;
	int pipes[2], status;
	posix_spawn_file_actions_t act;
	ssize_t n;
	FILE *out;
	pid_t pid;

	if (pipe(pipes))
		die("pipe");
	posix_spawn_file_actions_init(&act);
	posix_spawn_file_actions_addchdir_np(&act, b->dir);
	posix_spawn_file_actions_adddup2(&act, pipes[1], 1);
	posix_spawn_file_actions_addclose(&act, pipes[0]);
	posix_spawn_file_actions_addclose(&act, pipes[1]);
	errno = posix_spawnp(&pid, argv[0], &act, NULL, argv, environ);
	if (errno)
		die("%s", argv[0]);
	posix_spawn_file_actions_destroy(&act);
	close(pipes[1]);
	out = fdopen(pipes[0], "r");
	while ((n = getline(&line, &size, out)) > 0)
		sum += mix(1, line, n);
	fclose(out);
	free(line);
	if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != code) {
		errno = ECHILD;
		die("%s ended with %d, not %d", argv[0], WIFEXITED(status) ? WEXITSTATUS(status) : -1, code);
	}
	return sum;
}

#define RUN(b, code, ...) program(b, code, (char *[]){ __VA_ARGS__, NULL })

static void timed_program(struct bench *b, int code, char *const argv[])
{
	double start = now();

	b->seen = program(b, code, argv);
	b->seconds = now() - start;
	b->work = 1;
}

#define TIMED(b, code, ...) timed_program(b, code, (char *[]){ __VA_ARGS__, NULL })

static void untar(struct bench *b, const char *archive, bool timed)
{
	char file[BLOCK];

	snprintf(file, sizeof file, "%s/%s", b->data, archive);
	if (timed)
		TIMED(b, 0, "tar", "-xf", file);
	else
		RUN(b, 0, "tar", "-xf", file);
}

void tree_prepare(struct bench *b)
{
	untar(b, "tree.tar", false);
}

void tree_prepare_repo(struct bench *b)
{
	untar(b, "repo.tar", false);
}

void tree_untar(struct bench *b)
{
	untar(b, "tree.tar", true);
}

void tree_remove(struct bench *b)
{
	TIMED(b, 0, "rm", "-rf", "tree");
}

void tree_find_cold(struct bench *b)
{
	RUN(b, 0, "find", "tree", "-type", "f", "-size", "+1k");
	drop_caches();
	TIMED(b, 0, "find", "tree", "-type", "f", "-size", "+1k");
}

void tree_grep_cold(struct bench *b)
{
	RUN(b, 0, "find", "tree", "-type", "f", "-size", "+1k");
	drop_caches();
	TIMED(b, 0, "grep", "-r", "-n", "needle", "tree");
}

/* The first one writes the index anew, since the inodes are not those of its making. */
void tree_git_status(struct bench *b)
{
	RUN(b, 0, "git", "-C", "repo", "status", "--porcelain");
	TIMED(b, 0, "git", "-C", "repo", "status", "--porcelain");
}

/* SPDX-License-Identifier: MIT */
/*
 * Ports: who is let in, what is asked and answered; and a listener that is killed, hangs or talks nonsense at each state of
 * a message holds up nobody.
 */
#include "stack/testing.h"
#include "wire/packet.h"

#include <altitude/listener.h>
#include <altitude/ntstatus.h>
#include <altitude/port.h>

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "test"
#define LONG_MS 60000            /* a deadline that must not be what ends a question */

static char runtime[64];
static struct alt_port *port;
static struct alt_error err;
static _Atomic int connects, disconnects;

static int on_connect(void *arg, const struct alt_caller *peer, const void *context, size_t size, void **ret_cookie)
{
	if (peer->uid != getuid() || !peer->pid)
		return -EPROTO;
	if (size == 4 && !memcmp(context, "none", 4))
		return -EACCES;
	*ret_cookie = (void *)(uintptr_t)peer->pid;
	atomic_fetch_add(&connects, 1);
	return 0;
}

static void on_disconnect(void *arg, void *cookie)
{
	atomic_fetch_add(&disconnects, cookie != NULL);
}

static long on_message(void *arg, void *cookie, const void *in, size_t size, void *out, size_t room)
{
	if (!size)
		return -ENODATA;
	if (size == 5 && !memcmp(in, "full", 4))
		return room + (((const char *)in)[4] - '0');
	for (size_t i = 0; i < size; i++)
		((char *)out)[i] = ((const char *)in)[size - 1 - i];
	return size;
}

/* ---- a process that has no descriptor left ---- */

static _Atomic bool none_left;
static _Atomic int refusals;

static int descriptor(long fd)
{
	if (!atomic_load(&none_left))
		return fd;
	atomic_fetch_add(&refusals, 1);
	errno = EMFILE;
	return -1;
}

int accept4(int fd, struct sockaddr *a, socklen_t *size, int flags)
{
	return descriptor(atomic_load(&none_left) ? -1 : syscall(SYS_accept4, fd, a, size, flags));
}

int socket(int family, int type, int protocol)
{
	return descriptor(atomic_load(&none_left) ? -1 : syscall(SYS_socket, family, type, protocol));
}

static _Atomic bool slow;        /* what lets a listener in takes its time */

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	const struct alt_port_header *h = m->msg_iov[0].iov_base;

	if (atomic_load(&slow) && h->kind == ALT_PORT_ACCEPT)
		usleep(2000);
	return syscall(SYS_sendmsg, fd, m, flags);
}

/* One that has not said who it is. */
static int stranger(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%.60s/" NAME ".port", runtime);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static const struct alt_port_handlers handlers = { on_connect, on_disconnect, on_message };

static int begin(void **state)
{
	connects = disconnects = 0;
	strcpy(runtime, "/tmp/alt-port-XXXXXX");
	if (!mkdtemp(runtime) || setenv("ALTITUDE_RUNTIME", runtime, 1) || t_begin(state))
		return -1;
	memset(&err, 0, sizeof err);
	return alt_port_open(NAME, &handlers, NULL, 2, &port, &err);
}

/* Nothing is left: no name in the directory, as many disconnects as connects. */
static int end(void **state)
{
	alt_port_close(port);
	assert_int_equal(connects, disconnects);
	assert_int_equal(rmdir(runtime), 0);
	return t_end(state);
}

#define case2(name) cmocka_unit_test_setup_teardown(name, begin, end)

static int ask(const char *text, unsigned timeout_ms, int otherwise, int *ret_why)
{
	struct alt_port_message m = { .data = text, .size = strlen(text), .timeout_ms = timeout_ms, .otherwise = otherwise };
	int status = alt_port_ask(port, &m);

	*ret_why = m.why;
	return status;
}

static void until_count(unsigned n)
{
	while (alt_port_count(port) != n)
		usleep(1000);
}

/* ---- listeners: children that live until they are told or killed ---- */

enum manner { ANSWERS, READS_ONLY, NEVER_READS, DIES_UNREAD, DIES_READ, NONSENSE, WRONG_ID, SHORT_PACKET, EMPTY_PACKET, LONG_PACKET, REFUSES_ALL };

static void child_main(enum manner how)
{
	struct alt_listener *l;
	char buf[ALT_PORT_PAYLOAD_MAX];
	uint64_t id;
	long n;

	close_range(3, ~0u, 0); /* or the port's sockets would live on here */
	if (alt_listener_connect(NAME, "hello", 5, &l, &err) < 0)
		_exit(1);
	if (how == NEVER_READS)
		for (;;)
			pause();
	if (how == DIES_UNREAD) {
		struct pollfd p = { alt_listener_fd(l), POLLIN };

		poll(&p, 1, -1);
		_exit(0);
	}
	while ((n = alt_listener_get(l, &id, buf, sizeof buf, -1)) >= 0) {
		if (how == DIES_READ)
			_exit(0);
		if (how == ANSWERS || how == REFUSES_ALL)
			alt_listener_reply(l, id, how == REFUSES_ALL || memmem(buf, n, "foul", 4) ? -EACCES : 0, buf, n);
		if (how == NONSENSE)
			send(alt_listener_fd(l), "nonsense, longer than a header has bytes", 40, MSG_NOSIGNAL);
		if (how == SHORT_PACKET)
			send(alt_listener_fd(l), "x", 1, MSG_NOSIGNAL);
		if (how == EMPTY_PACKET)
			send(alt_listener_fd(l), NULL, 0, MSG_NOSIGNAL);
		if (how == LONG_PACKET) {
			static char big[sizeof(struct alt_port_header) + ALT_PORT_PAYLOAD_MAX + 1];

			memcpy(big, &(struct alt_port_header){ ALT_PORT_MAGIC, ALT_PORT_VERSION, ALT_PORT_REPLY, id,
							       ALT_PORT_PAYLOAD_MAX + 1, -EACCES }, sizeof(struct alt_port_header));
			send(alt_listener_fd(l), big, sizeof big, MSG_NOSIGNAL);
		}
		if (how == WRONG_ID) {
			alt_listener_reply(l, id + 1, 0, NULL, 0);
			alt_listener_reply(l, id, -EACCES, NULL, 0);
		}
	}
	_exit(n == -EPIPE ? 0 : 2);
}

static pid_t child(enum manner how)
{
	unsigned before = alt_port_count(port);
	pid_t pid = fork();

	if (pid == 0)
		child_main(how);
	until_count(before + 1);
	return pid;
}

static void child_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* ---- what is asked is answered ---- */

static void a_listeners_answer_is_the_answer(void **state)
{
	pid_t pid = child(ANSWERS);
	char reply[16];
	struct alt_port_message m = { "a foul one", 10, reply, sizeof reply, LONG_MS, 0 };
	int why;

	assert_int_equal(ask("good", LONG_MS, -EPERM, &why), 0);
	assert_int_equal(why, 0);
	assert_int_equal(alt_port_ask(port, &m), -EACCES);
	assert_int_equal(m.why, 0);
	assert_int_equal(m.reply_size, 10);
	assert_memory_equal(reply, "a foul one", 10);
	m.reply_size = 3;
	memset(reply, 0, sizeof reply);
	assert_int_equal(alt_port_ask(port, &m), -EACCES);
	assert_int_equal(m.why, -EMSGSIZE);
	assert_string_equal(reply, "a f");
	child_kill(pid);
}

static void the_largest_message_goes_there_and_back(void **state)
{
	pid_t pid = child(ANSWERS);
	char *data = malloc(ALT_PORT_PAYLOAD_MAX), *reply = malloc(ALT_PORT_PAYLOAD_MAX);
	struct alt_port_message m = { data, ALT_PORT_PAYLOAD_MAX, reply, ALT_PORT_PAYLOAD_MAX, LONG_MS, -EPERM };

	for (int i = 0; i < ALT_PORT_PAYLOAD_MAX; i++)
		data[i] = i * 7;
	assert_int_equal(alt_port_ask(port, &m), 0);
	assert_memory_equal(data, reply, ALT_PORT_PAYLOAD_MAX);
	m.size++;
	assert_int_equal(alt_port_ask(port, &m), -EPERM);
	assert_int_equal(m.why, -EMSGSIZE);
	child_kill(pid);
	free(data);
	free(reply);
}

static void who_listens_can_call(void **state)
{
	struct alt_listener *l;
	char out[8] = "";

	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &l, &err), 0);
	assert_int_equal(alt_listener_call(l, "abc", 3, out, sizeof out), 3);
	assert_string_equal(out, "cba");
	assert_int_equal(alt_listener_call(l, "abc", 3, out, 1), 1);
	assert_int_equal(alt_listener_call(l, NULL, 0, out, sizeof out), -ENODATA);
	assert_int_equal(alt_listener_call(l, "full0", 5, out, sizeof out), sizeof out);
	assert_int_equal(alt_listener_call(l, "full1", 5, out, sizeof out), -EOVERFLOW);
	alt_listener_close(l);
}

static void what_is_told_while_a_call_waits_is_kept_in_order(void **state)
{
	struct alt_listener *l;
	char buf[16];
	uint64_t id = 9;

	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &l, &err), 0);
	until_count(1);
	assert_int_equal(alt_port_tell(port, "one", 3), 1);
	assert_int_equal(alt_port_tell(port, "three", 5), 1);
	assert_int_equal(alt_listener_call(l, "ab", 2, buf, sizeof buf), 2);
	assert_int_equal(alt_listener_get(l, &id, buf, sizeof buf, 0), 3);
	assert_int_equal(id, 0);
	assert_memory_equal(buf, "one", 3);
	assert_int_equal(alt_listener_get(l, &id, buf, 2, 0), -EMSGSIZE);
	assert_int_equal(alt_listener_get(l, &id, buf, sizeof buf, 0), -ETIMEDOUT);
	alt_listener_close(l);
}

struct asker { pthread_t thread; const char *text; int status, why; };

static void *asker_main(void *arg)
{
	struct asker *a = arg;

	a->status = ask(a->text, LONG_MS, -EPERM, &a->why);
	return NULL;
}

static void asker_begin(struct asker *a, const char *text)
{
	a->text = text;
	pthread_create(&a->thread, NULL, asker_main, a);
}

static void answers_find_their_questions_in_any_order(void **state)
{
	struct asker askers[3];
	struct alt_listener *l;
	uint64_t ids[3];
	char text[3];

	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &l, &err), 0);
	until_count(1);
	for (int i = 0; i < 3; i++)
		asker_begin(&askers[i], (const char *[]){ "1", "2", "3" }[i]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(alt_listener_get(l, &ids[i], &text[i], 1, -1), 1);
	for (int i = 1; i < 4; i++)
		alt_listener_reply(l, ids[i % 3], -(text[i % 3] - '0'), NULL, 0);
	for (int i = 0; i < 3; i++) {
		pthread_join(askers[i].thread, NULL);
		assert_int_equal(askers[i].why, 0);
		assert_int_equal(askers[i].status, -(i + 1));
	}
	alt_listener_close(l);
}

static void a_status_that_is_none_is_no_answer_of_a_filter(void **state)
{
	static const int said[][2] = {
		{ -4095, -4095 }, { -4096, -EPROTO }, { 1, -EPROTO }, { INT32_MAX, -EPROTO }, { INT32_MIN, -EPROTO }, { 0, 0 },
	};
	struct alt_listener *l;
	struct asker asker;
	uint64_t id;
	char text;

	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &l, &err), 0);
	until_count(1);
	for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
		asker_begin(&asker, "x");
		assert_int_equal(alt_listener_get(l, &id, &text, 1, -1), 1);
		alt_listener_reply(l, id, said[i][0], NULL, 0);
		pthread_join(asker.thread, NULL);
		assert_int_equal(asker.status, said[i][1]);
	}
	alt_listener_close(l);
}

static void listeners_are_asked_in_turn(void **state)
{
	struct alt_listener *l[2];
	uint64_t id;
	char text;
	int why;

	for (int i = 0; i < 2; i++)
		assert_int_equal(alt_listener_connect(NAME, NULL, 0, &l[i], &err), 0);
	until_count(2);
	for (int i = 0; i < 4; i++)
		ask((const char *[]){ "1", "2" }[i / 2], 1, 0, &why);
	for (int i = 0; i < 2; i++) {
		for (int n = 0; n < 2; n++) {
			assert_int_equal(alt_listener_get(l[i], &id, &text, 1, 0), 1);
			assert_int_equal(text, '1' + n);
		}
		assert_int_equal(alt_listener_get(l[i], &id, &text, 1, 0), -ETIMEDOUT);
		alt_listener_close(l[i]);
	}
}

/* ---- who comes in ---- */

static void nobody_there_means_the_policy(void **state)
{
	int why;

	assert_int_equal(ask("x", LONG_MS, 0, &why), 0);
	assert_int_equal(why, -ENOTCONN);
	assert_int_equal(ask("x", LONG_MS, -EACCES, &why), -EACCES);
	assert_int_equal(why, -ENOTCONN);
}

static void the_filter_may_send_a_listener_away(void **state)
{
	struct alt_listener *l;

	assert_int_equal(alt_listener_connect(NAME, "none", 4, &l, &err), -EACCES);
	assert_non_null(strstr(err.text, "does not let this program in"));
	assert_null(l);
}

static void one_more_than_the_most_is_sent_away(void **state)
{
	struct alt_listener *a, *b, *c;

	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &a, &err), 0);
	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &b, &err), 0);
	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &c, &err), -EUSERS);
	alt_listener_close(b);
	until_count(1);
	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &c, NULL), 0);
	alt_listener_close(a);
	alt_listener_close(c);
}

static void who_never_says_who_it_is_takes_no_place_for_ever(void **state)
{
	int silent[3 * ALT_PORT_CONNECTIONS_MAX];
	struct alt_listener *a, *b;
	char buf[4];

	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &a, &err), 0);
	for (size_t i = 0; i < sizeof silent / sizeof *silent; i++)
		silent[i] = stranger();
	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &b, &err), 0);
	assert_int_equal(alt_listener_call(a, "x", 1, buf, sizeof buf), 1);
	for (size_t i = 0; i < sizeof silent / sizeof *silent; i++)
		close(silent[i]);
	alt_listener_close(a);
	alt_listener_close(b);
}

static void *tell_on(void *arg)
{
	while (!atomic_load((_Atomic bool *)arg))
		alt_port_tell(port, "x", 1);
	return NULL;
}

static void that_it_is_let_in_is_the_first_a_listener_hears(void **state)
{
	_Atomic bool over = false;
	struct alt_listener *l;
	pthread_t t;
	int wrong = 0;

	slow = true;
	pthread_create(&t, NULL, tell_on, (void *)&over);
	for (int i = 0; i < 20; i++) {
		int r = alt_listener_connect(NAME, NULL, 0, &l, NULL);

		wrong += r && r != -EUSERS; /* the last ones are not seen to be gone */
		alt_listener_close(l);
	}
	slow = false;
	over = true;
	pthread_join(t, NULL);
	assert_int_equal(wrong, 0);
	until_count(0);
}

static void who_cannot_be_taken_in_is_looked_at_now_and_then(void **state)
{
	struct alt_listener *l;
	int fd;

	refusals = 0;
	none_left = true;
	fd = stranger();
	while (!atomic_load(&refusals))
		usleep(1000);
	usleep(50000);
	assert_true(atomic_load(&refusals) < 1000); /* without rest it is tens of thousands */
	none_left = false;
	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &l, &err), 0);
	alt_listener_close(l);
	close(fd);
}

static void a_living_ports_name_stays_when_there_is_no_descriptor(void **state)
{
	struct alt_listener *l;
	struct alt_port *other;

	none_left = true;
	assert_int_equal(alt_port_open(NAME, NULL, NULL, 1, &other, &err), -EMFILE);
	none_left = false;
	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &l, &err), 0);
	alt_listener_close(l);
}

static int descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void a_name_is_taken_while_its_server_lives(void **state)
{
	struct alt_port *other = NULL;
	int before = descriptors();

	assert_int_equal(alt_port_open(NAME, NULL, NULL, 1, &other, &err), -EEXIST);
	assert_int_equal(descriptors(), before);
	assert_int_equal(err.status, STATUS_OBJECT_NAME_COLLISION);
	assert_null(other);
	alt_port_close(port);
	memset(&err, 0, sizeof err);
	assert_int_equal(alt_port_open(NAME, &handlers, NULL, 2, &port, &err), 0);
}

static void a_dead_servers_name_is_cleaned_away(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	struct alt_port *other;
	char path[100];

	snprintf(path, sizeof path, "%s/dead.port", runtime);
	strcpy(a.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a) | listen(fd, 1), 0);
	close(fd);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(alt_port_open("dead", NULL, NULL, 1, &other, &err), 0);
	alt_port_close(other);
	assert_int_equal(access(path, F_OK), -1);
}

static void bad_names_and_numbers_are_said(void **state)
{
	const char *bad[] = { "", ".x", "a/b", "a b", "abcdefghijklmnopqrstu", "\xc3\xa4" };
	struct alt_port *other;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(alt_port_open(bad[i], NULL, NULL, 1, &other, NULL), -EINVAL);
	assert_int_equal(alt_port_open("x", NULL, NULL, 0, &other, NULL), -EINVAL);
	assert_int_equal(alt_port_open("x", NULL, NULL, ALT_PORT_CONNECTIONS_MAX + 1, &other, NULL), -EINVAL);
}

static void a_stopped_port_keeps_who_is_in(void **state)
{
	pid_t pid = child(ANSWERS);
	struct alt_listener *l;
	int why;

	alt_port_stop(port);
	while (alt_listener_connect(NAME, NULL, 0, &l, NULL) == 0)
		alt_listener_close(l);
	assert_int_equal(ask("a foul one", LONG_MS, 0, &why), -EACCES);
	child_kill(pid);
}

static void closing_the_port_is_the_listeners_end(void **state)
{
	pid_t pid = child(ANSWERS);
	int status;

	alt_port_close(port);
	port = NULL;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- listeners that fail ---- */

static void a_listener_that_dies_unread_holds_up_nobody(void **state)
{
	pid_t pid = child(DIES_UNREAD);
	int why;

	assert_int_equal(ask("x", LONG_MS, 0, &why), 0);
	assert_int_equal(why, -EPIPE);
	waitpid(pid, NULL, 0);
}

static void a_listener_that_dies_with_the_question_holds_up_nobody(void **state)
{
	pid_t pid = child(DIES_READ);
	int why;

	assert_int_equal(ask("x", LONG_MS, -EACCES, &why), -EACCES);
	assert_int_equal(why, -EPIPE);
	waitpid(pid, NULL, 0);
}

static void nonsense_is_the_end_of_a_connection(void **state)
{
	const enum manner ways[] = { NONSENSE, SHORT_PACKET, EMPTY_PACKET, LONG_PACKET };
	int why;

	for (int i = 0; i < 4; i++) {
		pid_t pid = child(ways[i]);

		assert_int_equal(ask("x", LONG_MS, 0, &why), 0);
		assert_int_equal(why, -EPIPE);
		until_count(0);
		waitpid(pid, NULL, 0);
	}
}

static void a_reply_to_nobody_changes_nothing(void **state)
{
	pid_t pid = child(WRONG_ID);
	int why;

	assert_int_equal(ask("x", LONG_MS, 0, &why), -EACCES);
	assert_int_equal(why, 0);
	child_kill(pid);
}

static void a_hung_listener_is_not_asked_any_more(void **state)
{
	pid_t pid = child(READS_ONLY);
	int why;

	for (int i = 0; i < ALT_PORT_MISSES; i++) {
		assert_int_equal(ask("x", 5, 0, &why), 0);
		assert_int_equal(why, -ETIMEDOUT);
	}
	assert_int_equal(ask("x", LONG_MS, -EACCES, &why), -EACCES);
	assert_int_equal(why, -ENOTCONN);
	child_kill(pid);
}

static void one_that_does_not_read_fills_its_own_queue_only(void **state)
{
	pid_t pid = child(NEVER_READS);
	static char big[ALT_PORT_PAYLOAD_MAX];
	struct alt_port_message m = { big, sizeof big, .timeout_ms = LONG_MS, .otherwise = -EACCES };
	int told = 0;

	while (alt_port_tell(port, big, sizeof big))
		assert_true(++told < 100000);
	for (int i = 0; i <= ALT_PORT_MISSES; i++) {
		assert_int_equal(alt_port_ask(port, &m), -EACCES);
		assert_int_equal(m.why, i < ALT_PORT_MISSES ? -ETIMEDOUT : -ENOTCONN);
	}
	child_kill(pid);
}

static void the_other_one_is_asked_meanwhile(void **state)
{
	pid_t hung = child(READS_ONLY), good = child(ANSWERS);
	int why, missed = 0;

	for (int i = 0; i < 2 * ALT_PORT_MISSES; i++) {
		ask("x", 50, 0, &why);
		missed += why == -ETIMEDOUT;
	}
	assert_true(missed >= ALT_PORT_MISSES);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(ask("a foul one", LONG_MS, 0, &why), -EACCES);
		assert_int_equal(why, 0);
	}
	child_kill(hung);
	child_kill(good);
}

static void an_answer_at_last_makes_it_asked_again(void **state)
{
	struct alt_listener *l;
	uint64_t ids[ALT_PORT_MISSES], none;
	char buf[8];
	int why;

	assert_int_equal(alt_listener_connect(NAME, NULL, 0, &l, &err), 0);
	until_count(1);
	for (int i = 0; i < ALT_PORT_MISSES; i++) {
		ask("x", 5, 0, &why);
		assert_int_equal(alt_listener_get(l, &ids[i], buf, sizeof buf, -1), 1);
	}
	ask("x", LONG_MS, 0, &why);
	assert_int_equal(why, -ENOTCONN);
	assert_int_equal(alt_listener_reply(l, ids[0], 0, NULL, 0), 0);
	assert_int_equal(alt_listener_get(l, &none, buf, sizeof buf, 50), -ETIMEDOUT);
	do /* the reply is on its way */
		ask("x", 5, 0, &why);
	while (why == -ENOTCONN);
	assert_int_equal(why, -ETIMEDOUT);
	assert_int_equal(alt_listener_call(l, "y", 1, buf, sizeof buf), 1);
	assert_int_equal(alt_listener_late(l), 1);
	alt_listener_close(l);
}

static void *cancel_later(void *arg)
{
	usleep(20000);
	op_cancel(arg);
	return NULL;
}

static _Atomic int why_of_op;

static enum alt_pre pre_ask(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct alt_port_message m = { "x", 1, .timeout_ms = LONG_MS, .otherwise = -EACCES, .op = op };
	pthread_t t;

	pthread_create(&t, NULL, cancel_later, op);
	op->status = alt_port_ask(port, &m);
	why_of_op = m.why;
	pthread_join(t, NULL);
	return ALT_PRE_COMPLETE;
}

static void a_caller_that_gives_up_ends_the_question(void **state)
{
	pid_t pid = child(READS_ONLY);
	struct t_call c = { 0 };

	assert_int_equal(t_attach("A", "300"), 0);
	t_script('A')->on_pre = pre_ask;
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	t_wait(&c);
	assert_int_equal(why_of_op, -EINTR);
	child_kill(pid);
}

static void *ask_many(void *arg)
{
	for (int i = 0, why; i < 500; i++) {
		int status = ask(i % 2 ? "a foul one" : "good", LONG_MS, -EPERM, &why);

		if (status != (why ? -EPERM : i % 2 ? -EACCES : 0))
			atomic_fetch_add((_Atomic int *)arg, 1);
	}
	return NULL;
}

/* Listeners are killed and come again while four ask: each answer is the listener's or the policy's, and all end. */
static void listeners_come_and_die_under_load(void **state)
{
	pthread_t threads[4];
	_Atomic int wrong = 0;

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, ask_many, (void *)&wrong);
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0)
			child_main(ANSWERS);
		usleep(5000);
		child_kill(pid);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(wrong, 0);
	until_count(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		case2(a_listeners_answer_is_the_answer),
		case2(the_largest_message_goes_there_and_back),
		case2(who_listens_can_call),
		case2(what_is_told_while_a_call_waits_is_kept_in_order),
		case2(answers_find_their_questions_in_any_order),
		case2(a_status_that_is_none_is_no_answer_of_a_filter),
		case2(listeners_are_asked_in_turn),
		case2(nobody_there_means_the_policy),
		case2(the_filter_may_send_a_listener_away),
		case2(one_more_than_the_most_is_sent_away),
		case2(who_never_says_who_it_is_takes_no_place_for_ever),
		case2(that_it_is_let_in_is_the_first_a_listener_hears),
		case2(who_cannot_be_taken_in_is_looked_at_now_and_then),
		case2(a_living_ports_name_stays_when_there_is_no_descriptor),
		case2(a_name_is_taken_while_its_server_lives),
		case2(a_dead_servers_name_is_cleaned_away),
		case2(bad_names_and_numbers_are_said),
		case2(a_stopped_port_keeps_who_is_in),
		case2(closing_the_port_is_the_listeners_end),
		case2(a_listener_that_dies_unread_holds_up_nobody),
		case2(a_listener_that_dies_with_the_question_holds_up_nobody),
		case2(nonsense_is_the_end_of_a_connection),
		case2(a_reply_to_nobody_changes_nothing),
		case2(a_hung_listener_is_not_asked_any_more),
		case2(one_that_does_not_read_fills_its_own_queue_only),
		case2(the_other_one_is_asked_meanwhile),
		case2(an_answer_at_last_makes_it_asked_again),
		case2(a_caller_that_gives_up_ends_the_question),
		case2(listeners_come_and_die_under_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Contexts: who counts what, and that the cleanup runs exactly once, when nobody counts any more. */
#include "stack/testing.h"

struct note { _Atomic int *cleaned; char text[32]; };

static _Atomic long made, cleaned;

static void note_cleanup(void *context)
{
	struct note *n = context;

	atomic_fetch_add(&cleaned, 1);
	if (n->cleaned)
		atomic_fetch_add(n->cleaned, 1);
}

static struct note *note_new(_Atomic int *count)
{
	struct note *n = alt_context_new(sizeof *n, note_cleanup);

	n->cleaned = count;
	atomic_fetch_add(&made, 1);
	return n;
}

static struct alt_instance *a, *b;
static struct alt_node *root;

static int begin(void **state)
{
	made = cleaned = 0;
	if (t_begin(state) || t_attach("A", "300") || t_attach("B", "200"))
		return -1;
	a = t_instance("A");
	b = t_instance("B");
	root = alt_volume_root(t_volume);
	return 0;
}

static int end(void **state)
{
	int r = t_end(state);

	if (made != cleaned)
		fprintf(stderr, "%ld contexts made, %ld cleaned up\n", made, cleaned);
	return r || made != cleaned ? -1 : 0;
}

#define case2(name) cmocka_unit_test_setup_teardown(name, begin, end)

static void a_context_is_zeroed_and_cleaned_up_when_the_last_reference_goes(void **state)
{
	_Atomic int count = 0;
	struct note *n = note_new(&count);

	for (size_t i = 0; i < sizeof n->text; i++)
		assert_int_equal(n->text[i], 0);
	alt_context_ref(n);
	alt_context_unref(n);
	assert_int_equal(count, 0);
	alt_context_unref(n);
	assert_int_equal(count, 1);
	alt_context_unref(NULL);
	assert_null(alt_context_new(SIZE_MAX, NULL));
}

/* The documents' history: allocate 1, set 2, release 1, get 2, release 1, the object dies. */
static void the_object_counts_and_the_caller_counts(void **state)
{
	struct alt_file *f = t_open("f");
	_Atomic int count = 0;
	struct note *n = note_new(&count);

	assert_null(alt_file_get_context(a, f));
	assert_int_equal(alt_file_set_context(a, f, ALT_CONTEXT_KEEP, n, NULL), 0);
	alt_context_unref(n);
	assert_int_equal(count, 0);
	assert_ptr_equal(alt_file_get_context(a, f), n);
	alt_context_unref(n);
	assert_int_equal(count, 0);
	assert_int_equal(t_close(f), 0);
	assert_int_equal(count, 1);
}

/* ---- an object that goes while the instance does ---- */

static _Atomic long in_cleanup, may_go, detached;

static void cleanup_slowly(void *context)
{
	atomic_store(&in_cleanup, 1);
	t_until(&may_go, 1);
	note_cleanup(context);
}

static void *close_main(void *arg)
{
	t_close(arg);
	return NULL;
}

static void *detach_main(void *arg)
{
	t_detach(arg);
	atomic_store(&detached, 1);
	return NULL;
}

/* The cleanup is the module's code, on a thread that is in no operation of the filter: the module must not leave before. */
static void a_detach_waits_for_the_cleanup_of_an_object_that_is_going(void **state)
{
	struct alt_file *f = t_open("f");
	struct note *n = alt_context_new(sizeof *n, cleanup_slowly);
	pthread_t closing, detaching;

	atomic_fetch_add(&made, 1);
	in_cleanup = may_go = detached = 0;
	assert_int_equal(alt_file_set_context(a, f, ALT_CONTEXT_KEEP, n, NULL), 0);
	alt_context_unref(n);
	pthread_create(&closing, NULL, close_main, f);
	t_until(&in_cleanup, 1);
	pthread_create(&detaching, NULL, detach_main, "A");
	t_until(&t_script('A')->starts, 1);
	usleep(30000); /* a few looks: it must not be over */
	assert_int_equal(detached, 0);
	assert_int_equal(cleaned, 0);
	atomic_store(&may_go, 1);
	pthread_join(closing, NULL);
	pthread_join(detaching, NULL);
	assert_int_equal(detached, 1);
	assert_int_equal(cleaned, 1);
}

/* The same rules on each kind of object. */
enum kind { NODE, HANDLE, OWN, VOLUME, KINDS };

static struct alt_file *file;

static int set(enum kind k, struct alt_instance *in, enum alt_context_set mode, void *context, void **old)
{
	if (k == NODE)
		return alt_node_set_context(in, root, mode, context, old);
	if (k == HANDLE)
		return alt_file_set_context(in, file, mode, context, old);
	if (k == OWN)
		return alt_instance_set_context(in, mode, context, old);
	return alt_volume_set_context(in, mode, context, old);
}

static void *get(enum kind k, struct alt_instance *in)
{
	if (k == NODE)
		return alt_node_get_context(in, root);
	if (k == OWN)
		return alt_instance_get_context(in);
	return k == HANDLE ? alt_file_get_context(in, file) : alt_volume_get_context(in);
}

static void *take(enum kind k, struct alt_instance *in)
{
	if (k == NODE)
		return alt_node_delete_context(in, root);
	if (k == OWN)
		return alt_instance_delete_context(in);
	return k == HANDLE ? alt_file_delete_context(in, file) : alt_volume_delete_context(in);
}

static void each_kind_to(enum kind most, void (*fn)(enum kind k))
{
	file = t_open("f");
	for (int k = 0; k <= (int)most; k++)
		fn(k);
	assert_int_equal(t_close(file), 0);
}

static void each_kind(void (*fn)(enum kind k))
{
	each_kind_to(VOLUME, fn);
}

static void keep_on(enum kind k)
{
	_Atomic int first_count = 0, second_count = 0;
	struct note *first = note_new(&first_count), *second = note_new(&second_count);
	void *old = NULL;

	assert_int_equal(set(k, a, ALT_CONTEXT_KEEP, first, &old), 0);
	assert_null(old);
	assert_int_equal(set(k, a, ALT_CONTEXT_KEEP, second, NULL), -EEXIST);
	assert_int_equal(set(k, a, ALT_CONTEXT_KEEP, second, &old), -EEXIST);
	assert_ptr_equal(old, first);
	alt_context_unref(old);
	alt_context_unref(first);
	assert_int_equal(first_count, 0);
	alt_context_unref(second); /* a refused set left the count alone */
	assert_int_equal(second_count, 1);
	alt_context_unref(take(k, a));
	assert_int_equal(first_count, 1);
}

static void keep_leaves_what_is_there_and_shows_it(void **state)
{
	each_kind(keep_on);
}

static void replace_on(enum kind k)
{
	_Atomic int count[3] = { 0 };
	struct note *n[3] = { note_new(&count[0]), note_new(&count[1]), note_new(&count[2]) };
	void *old = NULL;

	assert_int_equal(set(k, a, ALT_CONTEXT_REPLACE, n[0], &old), 0);
	assert_null(old);
	alt_context_unref(n[0]);
	assert_int_equal(set(k, a, ALT_CONTEXT_REPLACE, n[1], NULL), 0);
	assert_int_equal(count[0], 1);
	assert_int_equal(set(k, a, ALT_CONTEXT_REPLACE, n[2], &old), 0);
	assert_ptr_equal(old, n[1]);
	alt_context_unref(n[1]);
	assert_int_equal(count[1], 0); /* handed over */
	alt_context_unref(old);
	assert_int_equal(count[1], 1);
	alt_context_unref(n[2]);
	assert_ptr_equal(take(k, a), n[2]);
	assert_int_equal(count[2], 0);
	alt_context_unref(n[2]);
	assert_int_equal(count[2], 1);
}

static void replace_hands_the_old_one_over_or_drops_it(void **state)
{
	each_kind(replace_on);
}

static void already_on(enum kind k)
{
	struct note *n = note_new(NULL), *other = note_new(NULL);
	void *old = &old;

	assert_int_equal(set(k, a, ALT_CONTEXT_KEEP, n, NULL), 0);
	assert_int_equal(set(k, a, ALT_CONTEXT_REPLACE, n, NULL), -EALREADY);
	assert_int_equal(set(k, b, ALT_CONTEXT_KEEP, n, NULL), -EALREADY);
	assert_int_equal(set(VOLUME - k, b, ALT_CONTEXT_KEEP, n, NULL), -EALREADY);
	assert_int_equal(set(k, b, ALT_CONTEXT_KEEP, other, NULL), 0);
	assert_ptr_equal(get(k, a), n);
	alt_context_unref(n);
	assert_ptr_equal(get(k, b), other);
	alt_context_unref(other);
	assert_ptr_equal(take(k, a), n);
	assert_null(get(k, a));
	assert_null(take(k, a));
	assert_int_equal(set(k, a, ALT_CONTEXT_KEEP, n, NULL), 0); /* free again */
	alt_context_unref(n);
	alt_context_unref(take(k, a));
	alt_context_unref(n);
	alt_context_unref(take(k, b));
	alt_context_unref(other);
}

static void a_context_hangs_in_one_place_and_an_instance_has_its_own(void **state)
{
	each_kind_to(OWN, already_on);
}

/* ---- of a volume: the filter's ---- */

static void the_instances_of_a_filter_share_the_volumes_context(void **state)
{
	_Atomic int count = 0;
	struct note *n = note_new(&count), *other = note_new(NULL);

	assert_int_equal(alt_volume_set_context(a, ALT_CONTEXT_KEEP, n, NULL), 0);
	alt_context_unref(n);
	assert_ptr_equal(alt_volume_get_context(b), n);
	alt_context_unref(n);
	assert_int_equal(alt_volume_set_context(b, ALT_CONTEXT_KEEP, other, NULL), -EEXIST);
	alt_context_unref(other);

	assert_int_equal(t_detach("A"), 0); /* who set it */
	assert_int_equal(count, 0);
	assert_int_equal(t_attach("C", "100"), 0);
	assert_int_equal(t_detach("B"), 0);
	assert_ptr_equal(alt_volume_get_context(t_instance("C")), n);
	alt_context_unref(n);
	assert_int_equal(count, 0);
	assert_int_equal(t_detach("C"), 0); /* the last */
	assert_int_equal(count, 1);
	assert_int_equal(t_attach("A", "300"), 0);
	assert_null(alt_volume_get_context(t_instance("A")));
}

static void another_filter_has_its_own_volume_context(void **state)
{
	static const struct alt_filter_registration reg = { .size = sizeof reg, .name = "another" };
	_Atomic int count = 0, others = 0;
	struct note *n = note_new(&count), *other = note_new(&others);
	struct alt_instance *d;

	assert_int_equal(t_attach_as(&reg, "D", "50"), 0);
	d = t_instance("D");
	assert_int_equal(alt_volume_set_context(a, ALT_CONTEXT_KEEP, n, NULL), 0);
	assert_null(alt_volume_get_context(d));
	assert_int_equal(alt_volume_set_context(d, ALT_CONTEXT_KEEP, n, NULL), -EALREADY);
	assert_int_equal(alt_volume_set_context(d, ALT_CONTEXT_KEEP, other, NULL), 0);
	alt_context_unref(n);
	alt_context_unref(other);
	assert_int_equal(t_detach("D"), 0);
	assert_int_equal(others, 1);
	assert_int_equal(count, 0);
}

static _Atomic long sharers;

static void *sharer_main(void *arg)
{
	const char *name = arg;
	char altitude[2] = { name[0], 0 };

	altitude[0] = '1' + name[0] - 'A';
	for (int round = 0; round < 300; round++) {
		struct alt_error err = { 0 };
		struct alt_instance *in;
		struct note *n;

		if (stack_attach(t_volume, t_filter(&t_letters), name, altitude, NULL, ALT_SETUP_MANUAL, &err))
			continue;
		in = t_instance(name);
		n = note_new(NULL);
		alt_volume_set_context(in, round & 1 ? ALT_CONTEXT_REPLACE : ALT_CONTEXT_KEEP, n, NULL);
		alt_context_unref(n);
		alt_context_unref(alt_volume_get_context(in));
		stack_detach(t_volume, NULL, name, ALT_TEARDOWN_MANUAL, &err);
		atomic_fetch_add(&sharers, 1);
	}
	return NULL;
}

static void instances_that_come_and_go_at_once_share_and_lose_nothing(void **state)
{
	static char *const names[] = { "D", "E", "F" };
	pthread_t t[3];

	sharers = 0;
	assert_int_equal(t_detach("A"), 0);
	assert_int_equal(t_detach("B"), 0);
	t_filter(&t_letters);
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, sharer_main, names[i]);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(sharers, 900);
	assert_int_equal(made, cleaned);
}

static void hang(enum kind k, struct alt_instance *in, _Atomic int *count)
{
	struct note *n = note_new(count);

	assert_int_equal(set(k, in, ALT_CONTEXT_KEEP, n, NULL), 0);
	alt_context_unref(n);
}

static void a_detach_drops_the_instances_contexts_and_no_others(void **state)
{
	_Atomic int mine = 0, others = 0;
	struct note *held;

	file = t_open("f");
	for (int k = 0; k < VOLUME; k++) {
		hang(k, a, &mine);
		hang(k, b, &others);
	}
	held = get(NODE, a);
	assert_int_equal(t_detach("A"), 0);
	assert_int_equal(mine, VOLUME - 1);
	assert_string_equal(held->text, "");
	alt_context_unref(held); /* the last to know it */
	assert_int_equal(mine, VOLUME);
	assert_int_equal(others, 0);
	assert_int_equal(t_detach("B"), 0);
	assert_int_equal(others, VOLUME);
	assert_int_equal(t_close(file), 0);
}

static void a_context_goes_with_its_node(void **state)
{
	uint64_t number = t_lookup(1, "f");
	struct alt_node *n = node_get(t_volume, number);
	_Atomic int count = 0;
	struct note *note = note_new(&count);

	assert_int_equal(alt_node_set_context(a, n, ALT_CONTEXT_KEEP, note, NULL), 0);
	alt_context_unref(note);
	alt_node_unref(n);
	assert_int_equal(count, 0);
	node_forget(t_volume, number, 1);
	assert_int_equal(count, 1);
	assert_null(node_get(t_volume, number));
}

/* ---- setup and teardown ---- */

static _Atomic int late_answer;

static int setup_hang_and_decline(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	struct note *on_node = note_new(NULL), *on_volume = note_new(NULL), *own = note_new(NULL);

	alt_node_set_context(in, alt_volume_root(t_volume), ALT_CONTEXT_KEEP, on_node, NULL);
	alt_volume_set_context(in, ALT_CONTEXT_KEEP, on_volume, NULL);
	alt_instance_set_context(in, ALT_CONTEXT_KEEP, own, NULL);
	alt_context_unref(on_node);
	alt_context_unref(on_volume);
	alt_context_unref(own);
	return -EPERM;
}

static void complete_hang(struct alt_instance *in, uint32_t reason)
{
	struct note *n = note_new(NULL);

	late_answer = alt_node_set_context(in, alt_volume_root(t_volume), ALT_CONTEXT_KEEP, n, NULL);
	alt_context_unref(n);
}

static void an_instance_that_declined_leaves_no_context(void **state)
{
	static const struct alt_filter_registration reg = { .size = sizeof reg, .name = "decline", .setup = setup_hang_and_decline };

	assert_true(t_attach_as(&reg, "D", "100") < 0);
	assert_int_equal(made, 3);
	assert_int_equal(cleaned, 3);
}

static void an_instance_that_goes_sets_no_context(void **state)
{
	static const struct alt_filter_registration reg = { .size = sizeof reg, .name = "late", .teardown_complete = complete_hang };

	assert_int_equal(t_attach_as(&reg, "D", "100"), 0);
	assert_int_equal(t_detach("D"), 0);
	assert_int_equal(late_answer, -ESHUTDOWN);
	assert_int_equal(made, cleaned);
}

/* Who goes is asked for what it hung up last, not for what another has by now. */
static void a_context_is_counted_where_it_hangs(void **state)
{
	struct note *n = note_new(NULL);

	assert_int_equal(alt_node_set_context(a, root, ALT_CONTEXT_KEEP, n, NULL), 0);
	assert_int_equal(contexts_verify(a->live, NULL), 1);
	alt_context_unref(alt_node_delete_context(a, root));
	assert_int_equal(alt_node_set_context(b, root, ALT_CONTEXT_KEEP, n, NULL), 0);
	assert_int_equal(contexts_verify(a->live, NULL), 0);
	assert_int_equal(contexts_verify(b->live, NULL), 1);
	alt_context_unref(alt_node_delete_context(b, root));
	assert_int_equal(alt_volume_set_context(a, ALT_CONTEXT_KEEP, n, NULL), 0);
	assert_int_equal(contexts_verify(b->live, NULL), 0);
	assert_int_equal(t_detach("A"), 0);
	assert_int_equal(t_detach("B"), 0);
	assert_int_equal(cleaned, 0);
	alt_context_unref(n);
}

static int setup_hang(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	return setup_hang_and_decline(in, flags, err) == -EPERM ? 0 : -EIO;
}

static _Atomic int there;

static void complete_look(struct alt_instance *in, uint32_t reason)
{
	void *c[] = { alt_node_get_context(in, alt_volume_root(t_volume)), alt_volume_get_context(in), alt_instance_get_context(in) };

	for (int i = 0; i < 3; i++) {
		there += c[i] && !cleaned;
		alt_context_unref(c[i]);
	}
}

/* What a filter keeps there is what it has to end with. */
static void contexts_are_there_until_the_teardown_is_complete(void **state)
{
	static const struct alt_filter_registration reg = {
		.size = sizeof reg, .name = "look", .setup = setup_hang, .teardown_complete = complete_look,
	};

	there = 0;
	assert_int_equal(t_attach_as(&reg, "D", "100"), 0);
	assert_int_equal(t_detach("D"), 0);
	assert_int_equal(there, 3);
	assert_int_equal(cleaned, 3);
}

/* ---- two threads ---- */

#define ROUNDS 20000

static _Atomic int differed;
static void *won[2];

static void *get_or_create(void)
{
	struct note *n = alt_node_get_context(a, root);
	void *old = NULL;
	int r;

	if (n)
		return n;
	n = note_new(NULL);
	r = alt_node_set_context(a, root, ALT_CONTEXT_KEEP, n, &old);
	if (!r)
		return n;
	alt_context_unref(n);
	return old;
}

static void *racer_main(void *arg)
{
	pthread_barrier_t *bar = ((void **)arg)[0];
	int me = (int)(intptr_t)((void **)arg)[1];

	for (int round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(bar);
		won[me] = get_or_create();
		pthread_barrier_wait(bar);
		if (me)
			alt_context_unref(alt_node_delete_context(a, root));
		if (won[0] != won[1])
			atomic_fetch_add(&differed, 1);
		pthread_barrier_wait(bar);
		alt_context_unref(won[me]);
	}
	return NULL;
}

static void get_or_create_from_two_threads_gives_one(void **state)
{
	pthread_barrier_t bar;
	pthread_t t[2];
	void *args[2][2] = { { &bar, (void *)0 }, { &bar, (void *)1 } };

	differed = 0;
	pthread_barrier_init(&bar, NULL, 2);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, racer_main, args[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	pthread_barrier_destroy(&bar);
	assert_int_equal(differed, 0);
	assert_true(made >= ROUNDS);
	assert_int_equal(made, cleaned);
}

static void *churn_main(void *arg)
{
	for (int round = 0; round < ROUNDS; round++) {
		struct note *n = note_new(NULL), *got;
		void *old = NULL;

		if (!alt_node_set_context(a, root, round & 1 ? ALT_CONTEXT_REPLACE : ALT_CONTEXT_KEEP, n, &old))
			got = alt_node_get_context(a, root);
		else
			got = NULL;
		alt_context_unref(n);
		alt_context_unref(got);
		alt_context_unref(old);
		if (round % 3 == 0)
			alt_context_unref(alt_node_delete_context(a, root));
	}
	return NULL;
}

static void set_get_and_delete_race_and_nothing_is_lost(void **state)
{
	pthread_t t[3];

	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, churn_main, NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	alt_context_unref(alt_node_delete_context(a, root));
	assert_int_equal(made, 3 * ROUNDS);
	assert_int_equal(cleaned, made);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		case2(a_detach_waits_for_the_cleanup_of_an_object_that_is_going),
		case2(a_context_is_zeroed_and_cleaned_up_when_the_last_reference_goes),
		case2(the_object_counts_and_the_caller_counts),
		case2(keep_leaves_what_is_there_and_shows_it),
		case2(replace_hands_the_old_one_over_or_drops_it),
		case2(a_context_hangs_in_one_place_and_an_instance_has_its_own),
		case2(the_instances_of_a_filter_share_the_volumes_context),
		case2(another_filter_has_its_own_volume_context),
		case2(instances_that_come_and_go_at_once_share_and_lose_nothing),
		case2(a_detach_drops_the_instances_contexts_and_no_others),
		case2(a_context_goes_with_its_node),
		case2(an_instance_that_declined_leaves_no_context),
		case2(an_instance_that_goes_sets_no_context),
		case2(a_context_is_counted_where_it_hangs),
		case2(contexts_are_there_until_the_teardown_is_complete),
		case2(get_or_create_from_two_threads_gives_one),
		case2(set_get_and_delete_race_and_nothing_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

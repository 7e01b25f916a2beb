/* SPDX-License-Identifier: MIT */
/* Lists of operations in options, "read;write": a bit for each code, and a word that helps who mistyped one. */
#ifndef ALTITUDE_KIT_OPS_H
#define ALTITUDE_KIT_OPS_H

#include <altitude/error.h>
#include <altitude/kit/near.h>
#include <altitude/op.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/** The operation whose name is near to @word, or ALT_OP_END. */
static inline enum alt_op_code alt_ops_near(const char *word)
{
	enum alt_op_code near = ALT_OP_END;
	unsigned best = ALT_NEAR_NONE;

	for (int code = 1; code < ALT_OP_COUNT; code++)
		if (alt_near_better(word, alt_op_name(code), &best))
			near = code;
	return near;
}

/**
 * Parse "read;write".
 * @who  the filter, for the message
 * @ret  1 << code for each
 * 0, or -EINVAL explained: a word that is no operation, or none at all.
 */
static inline int alt_ops_parse(const char *who, const char *text, uint64_t *ret, struct alt_error *err)
{
	char word[32];
	size_t len;

	for (*ret = 0; *text; text += len + (text[len] == ';')) {
		enum alt_op_code code, near;

		len = strcspn(text, ";");
		snprintf(word, sizeof(word), "%.*s", (int)len, text);
		code = alt_op_find(word);
		near = alt_ops_near(word);
		if (code == ALT_OP_END && near != ALT_OP_END)
			return alt_error_set(err, -EINVAL, "%s: op '%s' is no operation; do you mean '%s'?", who, word,
					     alt_op_name(near));
		if (code == ALT_OP_END)
			return alt_error_set(err, -EINVAL, "%s: op '%s' is no operation such as read or write; several have ';' between",
					     who, word);
		*ret |= 1ull << code;
	}
	return *ret ? 0 : alt_error_set(err, -EINVAL, "%s: say which operations: op=NAME", who);
}

#endif

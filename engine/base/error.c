/* SPDX-License-Identifier: MIT */
#include <altitude/error.h>
#include <altitude/ntstatus.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static const struct status_row {
	uint32_t value;
	int no;
	const char *name;
} rows[] = {
#define ROW(name, value, no) { value, no, #name },
	ALT_STATUS_TABLE(ROW)
#undef ROW
};

static const struct status_row *row_find(uint32_t status)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (rows[i].value == status)
			return &rows[i];
	return NULL;
}

int alt_status_errno(uint32_t status)
{
	const struct status_row *row = row_find(status);

	return row ? -row->no : -EIO;
}

const char *alt_status_name(uint32_t status)
{
	const struct status_row *row = row_find(status);

	return row ? row->name : "?";
}

static void explain(struct alt_error *err, int code, uint32_t status, const char *format, va_list ap)
{
	if (!err || err->code)
		return;
	err->code = code;
	err->status = status;
	vsnprintf(err->text, sizeof err->text, format, ap);
}

int alt_error_set(struct alt_error *err, int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	explain(err, code, 0, format, ap);
	va_end(ap);
	return code;
}

int alt_error_status(struct alt_error *err, uint32_t status, const char *format, ...)
{
	int code = alt_status_errno(status);
	va_list ap;

	va_start(ap, format);
	explain(err, code, status, format, ap);
	va_end(ap);
	return code;
}

/* SPDX-License-Identifier: MIT */
/* Contexts as filters see them: which object of io an instance hangs its own on, and who owns them there. */
#include "stack/stack.h"

int alt_node_set_context(struct alt_instance *in, struct alt_node *node, enum alt_context_set mode, void *context, void **old)
{
	return context_set(node->volume, &node->contexts, in, in->live, mode, context, old);
}

int alt_file_set_context(struct alt_instance *in, struct alt_file *file, enum alt_context_set mode, void *context, void **old)
{
	return context_set(file->node->volume, &file->contexts, in, in->live, mode, context, old);
}

int alt_instance_set_context(struct alt_instance *in, enum alt_context_set mode, void *context, void **old)
{
	return context_set(in->volume, &in->contexts, in, in->live, mode, context, old);
}

int alt_volume_set_context(struct alt_instance *in, enum alt_context_set mode, void *context, void **old)
{
	struct alt_volume *v = in->volume;
	struct contexts_live *live = in->share->live;

	return context_set(v, &v->contexts, live, live, mode, context, old);
}

void *alt_node_get_context(struct alt_instance *in, struct alt_node *node)
{
	return context_get(node->volume, &node->contexts, in, false);
}

void *alt_file_get_context(struct alt_instance *in, struct alt_file *file)
{
	return context_get(file->node->volume, &file->contexts, in, false);
}

void *alt_instance_get_context(struct alt_instance *in)
{
	return context_get(in->volume, &in->contexts, in, false);
}

void *alt_volume_get_context(struct alt_instance *in)
{
	struct alt_volume *v = in->volume;

	return context_get(v, &v->contexts, in->share->live, false);
}

void *alt_node_delete_context(struct alt_instance *in, struct alt_node *node)
{
	return context_get(node->volume, &node->contexts, in, true);
}

void *alt_file_delete_context(struct alt_instance *in, struct alt_file *file)
{
	return context_get(file->node->volume, &file->contexts, in, true);
}

void *alt_instance_delete_context(struct alt_instance *in)
{
	return context_get(in->volume, &in->contexts, in, true);
}

void *alt_volume_delete_context(struct alt_instance *in)
{
	struct alt_volume *v = in->volume;

	return context_get(v, &v->contexts, in->share->live, true);
}

#!/bin/sh
# Written by `inv schedule`, which also removes it: change it there, not here.
# Silent on success. On failure it prints what failed (cron mails that) and adds it to the log.
PATH={{ path }}
LC_ALL=C.UTF-8
export PATH LC_ALL
{% for name, value in environment %}
{{ name }}={{ value }}
export {{ name }}
{% endfor %}
cd {{ root }} || exit 1
{% if only_if %}
[ -e {{ only_if }} ] || exit 0
{% endif %}

# The run before this one may still be at it.
exec 9>{{ lock }} || exit 1
flock -n 9 || exit 0

output=$({{ command }} 2>&1 9>&-)
status=$?
[ "$status" -eq 0 ] && exit 0
{
    printf '%s: %s failed with exit code %s\n' "$(date '+%Y-%m-%dT%H:%M:%S%z')" {{ name }} "$status"
    printf 'on %s in %s\n%s\n' "$(uname -n)" {{ root }} "$output"
    printf 'to see more: cd %s && %s\n' {{ root_quoted }} {{ command_quoted }}
} | tee -a {{ log }}
exit "$status"

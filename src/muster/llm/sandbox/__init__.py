"""The Jinja environment chat templates run in: what they can call, and when they are cut off.

Semantics are those of Hugging Face ``transformers``: ``trim_blocks``, ``lstrip_blocks``, loop controls,
``{% generation %}`` blocks, a plain ``tojson``, ``raise_exception`` and ``strftime_now``. A template comes
with a model, from anyone, so it runs in Jinja's immutable sandbox and on a budget.

``environment`` is what ``muster.llm.template`` compiles with; the others are its parts: ``budget``,
``instrument`` (what is put into templates' code), ``filters``, ``offers`` (what templates can call),
``sizes``.

What the budget bounds, by instrumenting the template's syntax tree before it is compiled:

* time: every pass of every loop and every call of a macro looks at the clock, so no nest of loops or
  recursion of macros goes on for longer than the limit (``range`` itself stops at 100,000);
* output: each ``{{ }}`` and each pass of a loop accounts for the characters it adds, inside macros and
  ``{% set %}`` blocks too, and the rendered text is counted as it is generated;
* growth of values: ``+``, ``*``, ``**``, ``~``, the filters and methods that repeat or pad, the widths in
  formats, and the printing of nested lists are measured before they are carried out.

What it does not bound: a single operation of Python on values within these limits (sorting, comparing
nested values that share parts, ``%`` and ``format`` with many long arguments). A template made to exhaust
memory that way needs a process of its own; one that merely loops or grows does not.
"""

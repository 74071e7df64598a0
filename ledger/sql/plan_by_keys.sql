-- Let the statements of this transaction find their rows by keys, however small a table is now.
--
-- They are prepared, perhaps while a table is empty: no plan for a small table must outlive it.
--
-- locks       none
-- parameters  none
SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('enable_seqscan', 'off', true)

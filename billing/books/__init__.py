"""The vendor's books: what was earned, what is owed and to whom, in a balanced journal.

Nothing here decides what anybody pays. The books read what has happened, rule by rule
(`rules`): of each thing how much there is to book of it up to the end of a day, and what they have
booked of it so far. The difference is posted, whenever it became known; so no fact is lost, none is
booked twice, and a day that is closed stays as it is.

    facts ──rules──▶ postings ──lines──▶ lines of a day ──plaintext──▶ CSV, Beancount, hledger
                     exact, in micros     booked amounts
"""

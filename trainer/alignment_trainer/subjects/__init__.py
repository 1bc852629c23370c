"""Subjects of the data (a record, a person, a group): where they went, and how they are taken out again. No torch."""

"""Compares recommenders of ours with the rows of the paper's Table 1 that need no LVLM (MSRBench, WWW 2025).

``contenders`` says which configurations stand for which row, ``comparison`` goes through them one by one,
``targets`` and ``stored_ranks`` rank every test target once, and ``page`` lays out what was found.
"""

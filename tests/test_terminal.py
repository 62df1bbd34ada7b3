from graft.terminal import printable


def test_what_steers_a_terminal_is_written_out_and_all_else_stays() -> None:
    assert printable("\x1b[31mred\x07 \u202eturned\r") == "\\x1b[31mred\\x07 \\x202eturned\\x0d"
    plain = "Tab\tand line\n, 鱼, कि, 👩‍🚀, كتاب"
    assert printable(plain) == plain

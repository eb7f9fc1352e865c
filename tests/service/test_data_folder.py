"""Tests that the folders of kept files are made for one user alone, or refused with a sentence."""

import os
import stat
from pathlib import Path

import pytest

from service.data_folder import make_data_folder
from service.errors import ConfigurationError


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def test_the_data_folder_and_a_part_of_it_are_made_for_this_user_alone(tmp_path: Path) -> None:
    folder = make_data_folder(tmp_path / "deep" / "data", "events")
    assert folder == tmp_path / "deep" / "data" / "events"
    assert (mode(folder.parent), mode(folder)) == (0o700, 0o700)
    assert make_data_folder(tmp_path / "deep" / "data", "events") == folder


def test_a_folder_that_others_use_keeps_its_mode_and_only_the_part_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "events").mkdir(mode=0o755)
    assert mode(make_data_folder(tmp_path, "events")) == 0o700
    assert mode(tmp_path) == 0o755


def test_a_file_in_the_place_of_the_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(ConfigurationError, match=r"^MSR_DATA: no folder .*/data/events: .*; set MSR_DATA to"):
        make_data_folder(tmp_path / "data", "events")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="MSR_DATA: no folder"):
        make_data_folder(tmp_path, "events")


def test_a_user_without_a_home_is_told_to_name_a_folder() -> None:
    with pytest.raises(ConfigurationError, match=r"MSR_DATA is ~/.* and this user has no"):
        make_data_folder(Path("~/.local/share/msr-serve"), "events")

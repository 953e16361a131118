"""A prompt through a chat template is the same on every day."""

from __future__ import annotations

import shutil

import pytest

TEMPLATE = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "Today Date: {{ date_string }} {{ messages[0]['content'] }}"
)
"""As those of Llama 3.2 do it."""


@pytest.mark.parametrize("name", ["hf", "vllm"])
def test_the_date_of_a_prompt_is_fixed(toy_track, start, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(toy_track.bases["toy-untied"].path, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    language_model = start(folder, name=name).language_model()
    prompt = language_model.apply_chat_template([{"role": "user", "content": "hello"}])
    assert prompt == "Today Date: 26 Jul 2024 hello"

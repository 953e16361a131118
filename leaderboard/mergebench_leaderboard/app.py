"""Serving the page: local by default, nothing but the page reachable."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from mergebench_core.errors import InputError


def launch(snapshot: Path, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve the leaderboard over the snapshot until interrupted.

    Args:
        snapshot: the store's `board.duckdb`; may be missing, and may be swapped at any time.
        host: address to listen on.
        port: port to listen on.

    Raises:
        InputError: the port is in use or the address is not this machine's.
    """
    check_port(host, port)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    from mergebench_leaderboard.page import CSS, build_page

    theme = gr.themes.Base(  # fonts of the system, none from the web
        primary_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    page = build_page(snapshot)
    try:
        page.launch(
            server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, inbrowser=False,
            theme=theme, css=CSS, footer_links=[], share=False,
            show_error=False, allowed_paths=[], max_file_size="1kb", enable_monitoring=False, strict_cors=True,
            ssr_mode=False, mcp_server=False, pwa=False,
        )  # fmt: skip
    except OSError:
        raise InputError(f"port {port} on {host} is in use; choose another with --port") from None
    sys.stdout.write(f"leaderboard: http://{host}:{port} (Ctrl-C stops it)\n")
    sys.stdout.flush()
    page.block_thread()


def check_port(host: str, port: int) -> None:
    """Make sure that the port can be listened on.

    Raises:
        InputError: it is in use or not permitted, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = (error.strerror or "cannot be used").lower()
            raise InputError(f"port {port} on {host}: {reason}; choose another with --port") from None

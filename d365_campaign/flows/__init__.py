"""The sync itself: pull, plan, apply. It meets the outside world through two protocols, `ports`."""

"""The command `handoff` with short times until a member is gone, and long ones until seeds are asked again."""

from handoff_actors.actors import followed_links
from handoff_actors.cli import main
from handoff_actors.core.cluster import following, gone_members, membership

vars(followed_links)["CONNECT_S"] = 0.5
following.FOLLOW_S, following.REPORT_S, following.UNFOLLOW_S = 1.2, 1.0, 2.0
membership.SUSPECT_S, membership.GONE_S, membership.DOUBT_S = 1.5, 3.0, 0.2
membership.SEED_RETRY_S = 3600.0
gone_members.LISTEN_S = 0.5
gone_members.TRY_S = 0.5
gone_members.MAX_TRY_S = 2.0

if __name__ == "__main__":
    main(prog_name="handoff")

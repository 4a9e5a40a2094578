create or replace temp table settled as
select o.key as "externalId",
       w."firstName" as "firstName",
       w."email" as "email",
       w."birthDate" as "birthDate",
       w."location.city" as "location.city",
       w."cusChildren" as "cusChildren",
       w."cusCredit" as "cusCredit",
       w."cusFlag" as "cusFlag",
       w."lastContact" as "lastContact",
       now() at time zone 'UTC' as _written_at, if(o.identical, 'identical', o.kind) as _written_as
from outcome as o
join change_window as w on w._key = o.key
where o.result = 'done' and o.kind <> 'delete';

delete from "contact"."mirror" where rowid in (
  select rowid from "contact"."mirror" where _hash in (select md5_number_lower(key) from outcome where result = 'done' and key in (select _key from change_window where _kind <> 'insert'))
) and "externalId" in (select key from outcome where result = 'done' and key in (select _key from change_window where _kind <> 'insert'));

insert into "contact"."mirror" ("externalId", "firstName", "email", "birthDate", "location.city", "cusChildren", "cusCredit", "cusFlag", "lastContact", _written_at, _written_as, _hash)
select "externalId", "firstName", "email", "birthDate", "location.city", "cusChildren", "cusCredit", "cusFlag", "lastContact", _written_at, _written_as, md5_number_lower("externalId") from settled;

insert into "contact"."deleted"
select key, now() at time zone 'UTC' from outcome
where result = 'done' and kind = 'delete';

delete from "contact"."change_set" where key in (select key from outcome where result = 'done');

delete from "contact"."existing" where "externalId" in (select key from outcome where result = 'done');

delete from "contact"."replay" where key in (select key from outcome where result = 'done');

delete from "contact"."reject" where key in (select key from outcome where result = 'done');

delete from "contact"."in_flight" where reserved > 0 and key in (select key from outcome where result <> 'unknown');

delete from "contact"."in_flight" where reserved = 0 and key in (select key from outcome where result in ('done', 'unknown'));

update "contact"."in_flight" set reserved = 0 where key in (select key from outcome);

delete from change_window where _key in (select key from outcome);
